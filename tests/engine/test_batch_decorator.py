"""`@pool.batch` as a decorator: what it takes, what it refuses, what it looks like."""

from __future__ import annotations

import asyncio
import math
import pickle
from typing import Any, cast

import pytest

from lifepool import (
    Pool,
)
from tests.engine import batched


async def _async_function(items: list[int]) -> list[int]:
    return items


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"max_size": 0}, ValueError, "max_size=0: expected a whole number >= 1"),
        ({"max_size": 1.5}, ValueError, "max_size=1.5"),
        ({"max_wait": -1}, ValueError, "max_wait=-1: expected seconds >= 0"),
        ({"max_wait": math.nan}, ValueError, "max_wait=nan"),
        ({"timeout": 0}, ValueError, "timeout=0: expected seconds above 0"),
        ({"retry_on": ValueError}, TypeError, r"@pool.batch does not know \['retry_on'\]; it takes .*'retries'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Pool().batch(**options)(batched.double.function)


def test_functions_that_a_worker_could_not_call_are_refused() -> None:
    def local(items: list[int]) -> list[int]:
        return items

    with pytest.raises(TypeError, match="top level of a module"):
        Pool().batch(local)
    with pytest.raises(TypeError, match="is async"):
        Pool().batch(_async_function)  # type: ignore[arg-type]


def test_it_looks_like_the_function_and_has_it() -> None:
    assert (batched.double.__name__, batched.double.__doc__) == ("double", "Double each.")
    assert batched.double.function([1, 2]) == [2, 4]
    assert pickle.loads(pickle.dumps(batched.double.function))([3]) == [6]


async def test_the_plain_function_can_be_run_with_a_list_of_ones_own() -> None:
    async with batched.pool as pool:
        assert await pool.run(batched.double.function, [1, 2]) == [2, 4]


async def test_to_run_the_batch_itself_is_refused_with_what_to_do() -> None:
    async with batched.pool as pool:
        with pytest.raises(TypeError, match=r"'await double\(item\)', or run double.function"):
            await pool.run(cast("Any", batched.double), 1)


async def test_statistics_know_a_batch_by_its_functions_name() -> None:
    async with batched.pool as pool:
        await batched.double(1)
        assert pool._engine is not None
        assert pool._engine.queries._scheduler.run_times.estimate("double") is not None


@pytest.mark.parametrize("backend", ["inline", "executor"])
async def test_batches_work_on_other_backends(backend: str) -> None:
    async with Pool(max_workers=1, backend=backend) as pool:
        batch: Any = pool.batch(batched.perform.function)
        results = await asyncio.gather(
            *map(batch, [("value", 1), ("error", "x"), ("value", 3)]), return_exceptions=True
        )
    assert results[::2] == [1, 3]
    assert isinstance(results[1], LookupError)
