"""Async and generator functions are refused before anything is queued, in one sentence; so are strange keywords."""

from __future__ import annotations

import functools
import os
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskError, TaskNotPicklable
from lifepool.futures import ProcessPoolExecutor
from tests import tasks
from tests.engine import plainless

if TYPE_CHECKING:
    from collections.abc import Iterator

client = plainless.Client()

ASYNC = [
    plainless.fetch,
    plainless.stream,
    client.fetch,
    plainless.Client.fetch_static,
    plainless.Client.fetch_class,
    plainless.AsyncCall(),
    plainless.StreamCall(),
    functools.partial(plainless.fetch, 1),
    functools.partial(functools.partial(client.fetch), 1),
    functools.partial(plainless.AsyncCall(), 1),
]
GENERATORS = [
    plainless.count,
    client.count,
    plainless.CountCall(),
    functools.partial(plainless.count, 1),
]
NOT_PLAIN = [
    *((fn, r"\w+ is async: it belongs on the event loop; pass a plain function") for fn in ASYNC),
    *((fn, r"\w+ is a generator function: .*return a list") for fn in GENERATORS),
    (42, "42 can't be called: pass a function, then its arguments"),
    ("name", "'name' can't be called"),
]


@pytest.fixture(autouse=True)
def _nothing_is_never_awaited() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("function", "message"), NOT_PLAIN)
async def test_they_are_refused_before_anything_is_queued(function: Any, message: str) -> None:
    async with Pool(backend="inline") as pool:
        with pytest.raises(TypeError, match=message):
            await pool.run(function)
        with pytest.raises(TypeError, match=message):
            pool.submit(function)
        with pytest.raises(TypeError, match=message):
            pool.map(function, [1, 2])
        with pytest.raises(TypeError, match=message):
            await pool.gather(function, [1, 2])
        with pytest.raises(TypeError, match=message):
            await pool.gather(function, [1, 2], return_exceptions=True)
        assert pool.statistics().submitted == 0


@pytest.mark.parametrize("function", [plainless.fetch, plainless.stream])
def test_the_decorators_refuse_them_at_once(function: Any) -> None:
    pool = Pool()
    for decorate in (pool.task, pool.task(timeout=1), pool.batch, pool.batch(max_size=2)):
        with pytest.raises(TypeError, match="is async: it belongs on the event loop"):
            decorate(function)
    if function is plainless.fetch:
        with pytest.raises(TypeError, match="is a generator function"):
            pool.task(plainless.count)


@pytest.mark.parametrize("initializer", [plainless.fetch, plainless.count, plainless.AsyncCall()])
def test_an_initializer_is_a_plain_function_too(initializer: Any) -> None:
    with pytest.raises(TypeError, match=r"is async|is a generator function"):
        Pool(initializer=initializer)
    with pytest.raises(TypeError, match=r"is async|is a generator function"):
        ProcessPoolExecutor(1, initializer=initializer)


async def test_so_is_a_progress_hook() -> None:
    hook: Any = plainless.AsyncCall()
    async with Pool(backend="inline") as pool:
        with pytest.raises(TypeError, match="expected a plain function of one argument"):
            await pool.gather(tasks.double, [1], on_progress=hook)


async def test_a_coroutine_in_the_place_of_a_function_is_closed_and_named() -> None:
    async with Pool(backend="inline") as pool:
        with pytest.raises(TypeError, match="fetch is async and was called: it belongs on the event loop"):
            await pool.run(plainless.fetch(1))  # type: ignore[call-overload]


def test_futures_say_the_same() -> None:
    with ProcessPoolExecutor(1) as executor:
        for function in (plainless.fetch, plainless.count):
            with pytest.raises(TypeError, match=r"is async|is a generator function"):
                executor.submit(function, 1).result(20)


async def test_what_is_still_to_be_run_is_named_when_a_plain_function_returns_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    hint = "async functions belong on the event loop"
    async with Pool(max_workers=1, preload=["tests.patient"]) as pool:
        pid = await pool.run(os.getpid)
        for function, message in (
            (plainless.give_coroutine, f"the function returned a coroutine .*{hint}"),
            (plainless.fetch_logged, f"the function returned a coroutine .*{hint}"),
            (plainless.give_stream, f"the function returned an asynchronous generator .*{hint}"),
            (plainless.give_generator, "the function returned a generator .*return a list"),
        ):
            with pytest.raises(TaskNotPicklable, match=message):
                await pool.run(function, 1)
            with pytest.raises(TaskNotPicklable, match=message):
                await pool.gather(function, [1, 2, 3], chunksize=3)
        with pytest.raises(TaskNotPicklable, match=r"result\['answers'\]\[0\] can't be pickled"):
            await pool.run(plainless.give_coroutine_inside)
        assert await pool.run(os.getpid) == pid
    errors = [line for line in capfd.readouterr().err.splitlines() if "never awaited" in line]
    assert len(errors) <= 1, "only the one that was hidden in a dictionary"


async def test_a_class_is_a_plain_function_whatever_its_instances_can() -> None:
    async with Pool(max_workers=1) as pool:
        assert (await pool.run(plainless.CoroutineClass, 3)).number == 3


async def test_an_object_that_can_be_called_may_have_attributes_that_raise() -> None:
    async with Pool(max_workers=1) as pool:
        assert await pool.run(plainless.Guarded(), 1) == 2
        assert await pool.gather(plainless.Guarded(), [1, 2]) == [2, 3]


async def test_a_batch_that_gives_a_coroutine_is_told_so() -> None:
    async with Pool(backend="inline") as pool:
        untyped: Any = pool
        batched = untyped.batch(plainless.give_coroutine)
        with pytest.raises(TaskError, match="give_coroutine returned a coroutine for a list of 1 items"):
            await batched(1)


# -- keywords ---------------------------------------------------------------------------------------------------------


async def test_keywords_of_the_function_are_told_where_they_go() -> None:
    async with Pool(backend="inline") as pool:
        untyped: Any = pool
        message = r"{}\(\) does not know separator: .*timeout.*functools.partial\(fn, separator=...\)"
        with pytest.raises(TypeError, match=message.format("run")):
            await untyped.run(tasks.concatenate, "a", "b", separator="-")
        with pytest.raises(TypeError, match=message.format("submit")):
            untyped.submit(tasks.concatenate, "a", "b", separator="-")
        with pytest.raises(TypeError, match=message.format("map")):
            untyped.map(tasks.concatenate, ["a"], separator="-")
        with pytest.raises(TypeError, match=message.format("gather")):
            await untyped.gather(tasks.concatenate, ["a"], separator="-")
        assert pool.statistics().submitted == 0
        assert await pool.run(functools.partial(tasks.concatenate, separator="-"), "a", "b") == "a-b"


async def test_options_of_the_pool_are_told_where_they_go() -> None:
    pool = Pool(backend="inline")
    task: Any = pool.task(tasks.double)
    with pytest.raises(TypeError, match=r"double\(\) has no parameter timeout: .*@pool.task\(timeout=...\)"):
        await task(2, timeout=3)
    with pytest.raises(TypeError, match="retries"):
        task.submit(2, retries=3)


async def test_an_option_that_is_a_parameter_too_is_the_functions() -> None:
    async with Pool(backend="inline") as pool:
        assert await pool.task(with_timeout)(1, timeout=3) == (1, 3)
        assert await pool.task(with_keywords)(1, timeout=3) == (1, {"timeout": 3})


def with_timeout(number: int, timeout: int) -> tuple[int, int]:
    return number, timeout


def with_keywords(number: int, **more: Any) -> tuple[int, dict[str, Any]]:
    return number, more


async def test_a_task_in_a_partial_is_told_how_to_be_bound() -> None:
    async with Pool(backend="inline") as pool:
        task: Any = pool.task(tasks.double)
        with pytest.raises(TypeError, match=r"double runs in the pool by itself: .*put double.function in the partial"):
            pool.submit(functools.partial(task, 2))
        assert await pool.run(functools.partial(task.function, 2)) == 4
