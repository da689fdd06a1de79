"""`@pool.task`: a plain function that runs in the pool when it is called."""

from __future__ import annotations

import inspect
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, PoolClosed, TaskHandle, TaskTimeout
from tests.engine import decorated

if TYPE_CHECKING:
    from pathlib import Path


async def test_it_is_awaited_with_the_functions_own_arguments() -> None:
    async with decorated.pool:
        assert await decorated.add(1) == 11
        assert await decorated.add(1, 2) == 3
        assert await decorated.add(1, y=2) == 3
        assert await decorated.add(x=1, factor=2) == 22


async def test_it_runs_in_a_worker() -> None:
    async with decorated.pool:
        assert await decorated.where() != os.getpid()


async def test_its_options_hold_for_each_call(tmp_path: Path) -> None:
    async with decorated.pool:
        with pytest.raises(TaskTimeout):
            await decorated.sleep_for_ever()
        assert await decorated.die_once(str(tmp_path / "tried")) == "survived"


async def test_it_can_be_submitted_run_mapped_and_gathered() -> None:
    async with decorated.pool as pool:
        handle = decorated.add.submit(1, factor=3)
        assert isinstance(handle, TaskHandle)
        assert await handle == 33
        add: Any = decorated.add
        assert await pool.run(add, 1, 2) == 3
        assert await pool.gather(add, [1, 2]) == [11, 12]
        assert [n async for n in pool.map(add, [1, 2])] == [11, 12]


async def test_other_pools_can_run_it_too() -> None:
    async with Pool(max_workers=1) as other:
        add: Any = decorated.add
        assert await other.run(add, 1, 2) == 3


def test_the_plain_function_stays_in_reach() -> None:
    assert decorated.add.function(1, 2) == 3
    assert decorated.add.function(1, factor=2) == 22


async def test_a_task_can_use_the_plain_function() -> None:
    async with decorated.pool as pool:
        assert await pool.run(decorated.takes_a_decorated_function_along, 4) == 8


async def test_a_static_method_of_a_class_can_be_decorated() -> None:
    async with decorated.pool:
        assert await decorated.Shop.price(4) == 12


def test_it_looks_like_the_function() -> None:
    assert getattr(decorated.add, "__name__", None) == "add"
    assert decorated.add.__doc__ == "Add two numbers."
    assert list(inspect.signature(decorated.add).parameters) == ["x", "y", "factor"]


def test_its_reference_is_the_plain_function_wherever_it_is_unpickled() -> None:
    arrived = pickle.loads(pickle.dumps(decorated.add.function))
    assert arrived is inspect.unwrap(decorated.add)
    assert arrived(1, 2) == 3


def test_unknown_options_are_refused_with_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"does not know \['retry'\]; it takes .*'retries'"):
        decorated.pool.task(retry=3)(decorated.add.function)  # type: ignore[call-overload]


@pytest.mark.parametrize("decorator", ["task", "batch"])
def test_wrong_options_are_refused_when_the_function_is_decorated(decorator: str) -> None:
    with pytest.raises(ValueError, match=r"retries=-1: expected a whole number >= 0"):
        getattr(decorated.pool, decorator)(retries=-1)(decorated.add.function)


@pytest.mark.parametrize("options", [{}, {"timeout": 1.0}])
def test_a_local_function_or_lambda_is_refused_when_it_is_decorated(
    options: dict[str, float],
) -> None:
    def local() -> None: ...

    for function in (local, lambda: None):
        with pytest.raises(TypeError, match="top level of a module"):
            decorated.pool.task(**options)(function)  # type: ignore[call-overload]


async def test_a_pool_that_does_not_run_says_so() -> None:
    with pytest.raises(PoolClosed):
        await decorated.add(1)


async def test_arguments_that_do_not_fit_are_the_functions_error() -> None:
    async with decorated.pool:
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            await decorated.add()  # type: ignore[call-arg]
