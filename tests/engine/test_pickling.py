"""What can't be sent is named; what was raised comes home as itself; the worker stays."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import PayloadTooLarge, Pool, TaskError, TaskNotPicklable
from lifepool._core import policy
from tests import tasks
from tests.engine.gates import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.engine.gates import Gate


@asynccontextmanager
async def pool_whose_worker_survives(**options: Any) -> AsyncIterator[Pool]:
    async with Pool(max_workers=1, preload=["tests.patient"], **options) as pool:
        pid = await pool.run(os.getpid)
        yield pool
        assert await pool.run(os.getpid) == pid, "the worker was replaced"


def local_function() -> Callable[[], None]:
    def inside() -> None: ...

    return inside


def job_in_a_list() -> list[Any]:
    return [{"jobs": (1, tasks.Job())}]


def unpicklable_cycle() -> list[Any]:
    cycle: list[Any] = [threading.Lock()]
    cycle.insert(0, cycle)
    return cycle


@pytest.mark.parametrize(
    ("function", "arguments", "path"),
    [
        (lambda: None, (), "the function"),
        (local_function(), (), "the function"),
        (functools.partial(tasks.echo, threading.Lock()), (), "the function.args[0]"),
        (functools.partial(tasks.keyword_only, value=tasks.Job()), (), "the function.keywords['value']"),
        (tasks.Session().greet, (), "the function.__self__._lock"),
        (tasks.echo, (threading.Lock(),), "args[0]"),
        (tasks.echo, (tasks.Job(),), "args[0].session._lock"),
        (tasks.echo, (1, job_in_a_list()), "args[1][0]['jobs'][1].session._lock"),
        (tasks.echo, (unpicklable_cycle(),), "args[0][1]"),
        (tasks.echo, (tasks.RefusesPickle(),), "args[0]"),
    ],
)
async def test_what_can_not_be_sent_is_refused_by_name(function: Any, arguments: tuple[Any, ...], path: str) -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskNotPicklable) as caught:
            pool.submit(function, *arguments)
        assert caught.value.side == "arguments"
        assert caught.value.path.startswith(path)
        assert path in str(caught.value)
        assert isinstance(caught.value, TypeError)
        assert pool.statistics().submitted == 1  # that of the pid


@pytest.mark.parametrize(
    ("function", "path"),
    [
        (tasks.make_session, "result._lock"),
        (tasks.make_jobs, "result['jobs'][0].session._lock"),
        (tasks.make_lambda, "result"),
    ],
)
async def test_a_result_that_can_not_be_sent_is_named(function: Callable[[], Any], path: str) -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskNotPicklable) as caught:
            await pool.run(function)
        assert caught.value.side == "result"
        assert caught.value.path == path


async def test_what_is_nested_too_deeply_is_refused_in_a_short_message() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskNotPicklable, match=r"^args\[0\] can't be pickled: RecursionError") as caught:
            await pool.run(tasks.echo, tasks.nest(10_000))
        assert len(str(caught.value)) < 400
        assert caught.value.hint.startswith("it is nested too deeply")
        with pytest.raises(TaskNotPicklable, match=r"^result can't be pickled: RecursionError") as caught:
            await pool.run(tasks.nest, 10_000)
        assert len(str(caught.value)) < 400
        assert caught.value.hint.startswith("it is nested too deeply")


async def test_arguments_that_the_worker_can_not_rebuild_fail_the_task_alone() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskNotPicklable, match=r"worker could not rebuild .*can't be rebuilt"):
            await pool.run(tasks.echo, tasks.BreaksWhenLoaded())


async def test_a_result_that_the_server_can_not_rebuild_fails_the_task_alone() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskNotPicklable, match=r"server could not rebuild .*can't be rebuilt"):
            await pool.run(tasks.make_breaking)


async def test_arguments_above_the_limit_are_refused_at_the_door() -> None:
    async with pool_whose_worker_survives(max_payload=1000) as pool:
        with pytest.raises(PayloadTooLarge, match="arguments") as caught:
            pool.submit(tasks.echo, bytes(1000))
        assert caught.value.size > caught.value.limit == 1000
        assert await pool.run(tasks.echo, bytes(800)) == bytes(800)


async def test_results_above_the_limit_are_refused_in_the_worker() -> None:
    async with pool_whose_worker_survives(max_payload=1000) as pool:
        with pytest.raises(PayloadTooLarge, match="result") as caught:
            await pool.run(tasks.zeros, 1000)
        assert caught.value.size > caught.value.limit == 1000
        assert await pool.run(tasks.zeros, 900) == bytes(900)


async def test_an_exception_brings_the_workers_traceback_as_its_cause() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(ValueError, match="deep down") as caught:
            await pool.run(tasks.fail_deeply)
        story = str(caught.value.__cause__)
        assert "in fail_deeply" in story
        assert "ValueError: deep down" in story
        assert "worker/task_loop.py" not in story  # our own frames are of no use


async def test_an_exception_with_an_init_of_its_own_comes_home_as_itself() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(tasks.OwnInit) as caught:
            await pool.run(tasks.raise_own_init)
        assert (caught.value.code, caught.value.detail) == (42, "of its own")
        assert str(caught.value) == "42: of its own"


async def test_of_an_exception_that_holds_a_lock_the_rest_comes_home() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(tasks.HoldsLock) as caught:
            await pool.run(tasks.raise_holding_lock)
        assert caught.value.args[0] == "with a lock"
        assert caught.value.number == 7


async def test_an_exception_of_a_local_class_is_told() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskError, match="Local: known here only") as caught:
            await pool.run(tasks.raise_local_class)
        assert "raise_local_class" in str(caught.value.__cause__)


async def test_an_exception_whose_text_raises_comes_home() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(tasks.Unprintable):
            await pool.run(tasks.raise_unprintable)


async def test_notes_and_causes_are_in_the_traceback() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(ValueError, match="noted") as noted:
            await pool.run(tasks.raise_with_notes)
        assert "a note of the task's" in str(noted.value.__cause__)
        with pytest.raises(ValueError, match="the second") as chained:
            await pool.run(tasks.raise_from_another)
        assert "KeyError: 'the first'" in str(chained.value.__cause__)


async def test_stop_iteration_is_told_because_a_coroutine_can_not_raise_it() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskError, match="StopIteration: stopped"):
            await pool.run(tasks.raise_stop_iteration)


async def test_endless_recursion_is_a_recursion_error() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(RecursionError) as caught:
            await pool.run(tasks.recurse)
        assert len(str(caught.value.__cause__)) < 40_000


async def test_arguments_nested_too_deeply_are_refused_with_a_reason() -> None:
    nested: list[Any] = []
    for _ in range(50_000):
        nested = [nested]
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskNotPicklable, match="RecursionError"):
            await pool.run(tasks.echo, nested)


async def test_the_cancelled_error_of_a_task_does_not_cancel_its_caller() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskError, match="CancelledError"):
            await pool.run(tasks.raise_cancelled)
        current = asyncio.current_task()
        assert current is not None
        assert not current.cancelling()


async def test_progress_that_can_not_be_sent_fails_in_the_task() -> None:
    async with pool_whose_worker_survives() as pool:
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.report_unpicklable)


async def test_a_task_can_be_broken_off_after_it_failed_to_report_progress(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with pool_whose_worker_survives() as pool:
        handle = pool.submit(tasks.report_unpicklable_then_hold, gate.address)
        await gate.arrival()
        handle.cancel()
