"""`@pool.batch`, whatever happens: every caller has exactly one outcome, and it is its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifepool import (
    TaskNotPicklable,
)
from lifepool._engine.scope import TaskScope, current_scope
from lifepool.errors import ClientDisconnected
from tests.engine import batched
from tests.engine.gates import until

if TYPE_CHECKING:
    from collections.abc import Callable


FATES = ["value", "error", "raise", "unpicklable", "cancel at once", "cancel later", "abort"]


def unpicklable() -> Any:
    return threading.Lock()


async def _caller(number: int, fate: str) -> Any:
    item: Any = (number, fate) if fate != "unpicklable" else (number, unpicklable())
    return await batched.random_outcomes(item)


EXPECTED: dict[str, Callable[[int, Any], bool]] = {
    "value": lambda number, got: bool(got == 10 * number),
    "error": lambda number, got: isinstance(got, LookupError) and got.args == (number,),
    "raise": lambda number, got: isinstance(got, ValueError) and got.args == (number,),
    "unpicklable": lambda number, got: isinstance(got, TaskNotPicklable),
    "cancel at once": lambda number, got: isinstance(got, asyncio.CancelledError),
    # It may have been answered before it was cancelled.
    "cancel later": lambda number, got: isinstance(got, asyncio.CancelledError) or got == 10 * number,
    "abort": lambda number, got: isinstance(got, ClientDisconnected) or got == 10 * number,
}


@settings(max_examples=60)
@given(st.lists(st.lists(st.sampled_from(FATES), max_size=8), max_size=8))
def test_every_caller_has_exactly_one_outcome_and_it_is_its_own(turns: list[list[str]]) -> None:
    RUNNER.run(_live_through(turns))


async def _live_through(turns: list[list[str]]) -> None:
    """Make the calls of each turn in one turn of the loop, and let each meet its fate."""
    calls: list[tuple[int, str, asyncio.Future[Any]]] = []
    scope = TaskScope()
    for turn in turns:
        for fate in turn:
            current_scope.set(scope if fate == "abort" else None)
            number = len(calls)
            call: asyncio.Future[Any] = asyncio.ensure_future(_caller(number, fate))
            calls.append((number, fate, call))
            if fate == "cancel at once":
                call.cancel()
        current_scope.set(None)
        for _, fate, call in calls:
            if fate == "cancel later":
                call.cancel()
        await asyncio.sleep(0)
    scope.end(ClientDisconnected())
    results = await asyncio.gather(*(call for _, _, call in calls), return_exceptions=True)
    for (number, fate, _), got in zip(calls, results, strict=True):
        assert EXPECTED[fate](number, got), (number, fate, got)
    batcher = batched.random_outcomes._batcher
    if batcher is not None:
        await until(lambda: batcher._under_way == 0)
        assert (batched.random_outcomes.waiting, len(batcher._open)) == (0, 0)


class _Runner:
    """One pool for all examples."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Any) -> None:
        assert self._runner is not None
        self._runner.run(coroutine)

    def __enter__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(batched.pool.start())

    def __exit__(self, *_: object) -> None:
        assert self._runner is not None
        self._runner.run(batched.pool.aclose())
        self._runner.close()


RUNNER = _Runner()


@pytest.fixture(autouse=True)
def _one_pool_for_all_examples(_nothing_leaks: None) -> Any:
    with RUNNER:
        yield
