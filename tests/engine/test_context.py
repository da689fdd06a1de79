"""What goes along with a task: context variables by name, and what hooks propagate."""

from __future__ import annotations

import decimal
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool, TaskNotPicklable
from lifepool._transfer.grouped import run_batch
from lifepool.futures import ProcessPoolExecutor
from lifepool.hooks import Hook
from tests.engine import context_tasks as tasks

if TYPE_CHECKING:
    from lifepool.hooks import PropagatedContext, TaskRecord


@pytest.mark.parametrize("backend", ["local", "inline", "executor"])
async def test_named_variables_have_their_value_in_the_worker(backend: str) -> None:
    tasks.user.set("ada")
    async with Pool(
        max_workers=1, backend=backend, carry_context=[tasks.user, "tests.engine.context_tasks:language"]
    ) as pool:
        assert await pool.run(tasks.who, "hello") == ("hello", "ada", "en")
        tasks.language.set("fr")
        assert await pool.run(tasks.who, "salut") == ("salut", "ada", "fr")


async def test_a_task_leaves_nothing_behind_in_the_context_of_the_next() -> None:
    async with Pool(max_workers=1, carry_context=[tasks.language]) as pool:
        tasks.language.set("fr")
        await pool.run(tasks.leave_a_trace)
        assert await pool.run(tasks.who, "salut") == ("salut", "nobody", "fr")


async def test_what_hooks_propagate_is_restored_beside_it() -> None:
    class Porter(Hook):
        def propagate_context(self, task: TaskRecord) -> PropagatedContext | None:
            return tasks.Suitcase("grace") if task.name == "who" else None

    tasks.language.set("fr")
    async with Pool(max_workers=1, carry_context=[tasks.language]) as pool:
        pool.add_hook(Porter())
        assert await pool.run(tasks.who, "salut") == ("salut", "grace", "fr")


async def test_a_value_that_can_not_be_pickled_is_named_and_arguments_still_are() -> None:
    tasks.language.set(threading.Lock())
    async with Pool(max_workers=1, carry_context=[tasks.language]) as pool:
        with pytest.raises(TaskNotPicklable, match=r"context\[0\]"):
            await pool.run(tasks.who, "hello")
        with pytest.raises(TaskNotPicklable, match=r"args\[0\]"):
            await pool.run(tasks.who, threading.Lock())  # type: ignore[arg-type]


async def test_a_variable_that_no_worker_could_find_ends_the_start_and_says_so() -> None:
    local: ContextVar[str] = ContextVar("local")
    with pytest.raises(ValueError, match=r"not a global of any module.*package\.module:variable"):
        await Pool(max_workers=1, carry_context=[local]).start()


async def test_a_name_that_is_no_variable_ends_the_start() -> None:
    pool = Pool(max_workers=1, carry_context=["tests.engine.context_tasks:not_a_variable"])
    with pytest.raises(TypeError, match="is a str, not a ContextVar"):
        await pool.start()


@pytest.mark.parametrize("backend", ["local", "inline", "executor"])
async def test_what_one_task_sets_in_the_context_the_next_does_not_see(backend: str) -> None:
    async with Pool(max_workers=1, backend=backend) as pool:
        assert [await pool.run(tasks.seen_and_set, name) for name in ("ada", "grace")] == ["nobody", "nobody"]


async def test_what_arguments_and_results_set_while_they_are_pickled_is_not_seen_either() -> None:
    async with Pool(max_workers=1) as pool:
        assert await pool.run(tasks.same, tasks.SetsWhenRebuilt("a case")) is not None
        assert await pool.run(tasks.seen_and_set, "ada") == "nobody"


@pytest.mark.parametrize("backend", ["local", "inline", "executor"])
async def test_nor_does_the_next_item_of_a_map_or_of_a_batch(backend: str) -> None:
    async with Pool(max_workers=1, backend=backend) as pool:
        mapped = pool.map(tasks.seen_and_set, ["ada", "grace", "alan"], chunksize=3)
        assert [seen async for seen in mapped] == ["nobody"] * 3
        result = await pool.run(run_batch, tasks.seen_and_set_each, ["ada", "grace"], True)
        assert result.values == ["nobody", "nobody"]


async def test_what_the_initializer_sets_every_task_sees() -> None:
    async with Pool(max_workers=1, initializer=tasks.set_both, initargs=("ada",)) as pool:
        assert [await pool.run(tasks.seen_and_set, name) for name in ("grace", "alan")] == ["ada", "ada"]
        assert [await pool.run(tasks.precision_seen_and_set, value) for value in (5, 6)] == [11, 11]
        mapped = pool.map(tasks.precision_seen_and_set, [5, 6, 7], chunksize=3)
        assert [seen async for seen in mapped] == [11] * 3


@pytest.mark.parametrize("backend", ["local", "inline", "executor"])
async def test_each_task_has_its_own_decimal_context(backend: str) -> None:
    standard = decimal.getcontext().prec
    async with Pool(max_workers=1, backend=backend) as pool:
        await pool.run(tasks.same, decimal.Decimal("0.1"))  # rebuilding a Decimal makes a decimal context
        assert [await pool.run(tasks.precision_seen_and_set, value) for value in (5, 6)] == [standard] * 2


async def test_a_task_that_is_interrupted_leaves_nothing_in_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifepool._core.policy.INTERRUPT_GRACE_S", 20.0)  # on a busy machine it gives in late
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(TimeoutError):
            await pool.submit(tasks.swallow_the_interrupt, "ada", timeout=0.3)
        assert await pool.run(tasks.seen_and_set, "grace") == "nobody"
        assert await pool.run(os.getpid) == pid


def test_nor_does_a_chunk_of_the_executor() -> None:
    with ProcessPoolExecutor(max_workers=1) as executor:
        assert list(executor.map(tasks.seen_and_set, ["ada", "grace"], chunksize=2)) == ["nobody"] * 2
