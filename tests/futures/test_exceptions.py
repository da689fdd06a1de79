"""`lifepool.futures`: exceptions arrive as with the standard executor, and no callback ends the thread."""

from __future__ import annotations

import asyncio
import concurrent.futures.process
import functools
import logging
import pickle
import threading
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import pytest

import lifepool
from lifepool import TaskNotPicklable
from lifepool.futures import ProcessPoolExecutor
from tests.engine.gates import PATIENCE_S, Gate
from tests.engine.leaving import HOW, LeavesElsewhere, LeavesWhenPickled, leave, leave_for_two, make_leaving
from tests.tasks import double, echo, exit_hard, fail, hold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future


@pytest.fixture
def executor() -> Iterator[ProcessPoolExecutor]:
    """Whatever happened, the next call is answered."""
    with ProcessPoolExecutor(1) as opened:
        yield opened
        assert opened.submit(double, 2).result(PATIENCE_S) == 4


def test_what_a_task_raises_arrives_as_what_it_is(executor: ProcessPoolExecutor) -> None:
    for how, raised in HOW.items():
        error = executor.submit(leave, how).exception(PATIENCE_S)
        assert type(error) is type(raised)
        assert error.args == raised.args
        assert "in leave" in str(error.__cause__)
        with pytest.raises(type(raised)):
            executor.submit(leave, how).result(PATIENCE_S)


def test_so_it_does_from_map(executor: ProcessPoolExecutor) -> None:
    results = executor.map(leave_for_two, [("SystemExit", number) for number in range(4)])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(SystemExit):
        next(results)


def test_what_leaves_while_it_is_pickled_or_rebuilt_fails_its_future(executor: ProcessPoolExecutor) -> None:
    for how, raised in HOW.items():
        calls: list[tuple[Any, ...]] = [
            (echo, LeavesWhenPickled(how)),
            (echo, LeavesElsewhere(how)),
            (make_leaving, how, 0),
        ]
        for call in calls:
            with pytest.raises(TaskNotPicklable, match=type(raised).__name__):
                executor.submit(*call).result(PATIENCE_S)


def test_callbacks_that_leave_are_logged_and_the_next_one_is_called(
    executor: ProcessPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    with Gate() as gate, caplog.at_level(logging.ERROR):
        future = executor.submit(hold, gate.address)
        called = threading.Event()
        for how in HOW:
            future.add_done_callback(functools.partial(leave_after, how))
        future.add_done_callback(lambda _: called.set())
        asyncio.run(gate.arrival()).let_through()
        assert called.wait(PATIENCE_S)
        assert future.result(PATIENCE_S) is None
    logged = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert logged == [type(error) for error in HOW.values()]


def leave_after(how: str, _: object) -> None:
    leave(how)


def test_a_callback_of_a_cancelled_call_may_leave_too(executor: ProcessPoolExecutor) -> None:
    with Gate() as gate:
        running = executor.submit(hold, gate.address)
        visitor = asyncio.run(gate.arrival())
        future: Future[int] = executor.submit(double, 1)
        called = threading.Event()

        def leave_on_the_pools_thread(_: object) -> None:
            called.set()
            if threading.current_thread() is not threading.main_thread():
                leave("SystemExit")

        future.add_done_callback(leave_on_the_pools_thread)
        assert future.cancel()
        assert called.wait(PATIENCE_S)
        visitor.let_through()
        running.result(PATIENCE_S)


def test_what_a_callback_raises_in_its_callers_thread_is_its_callers(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(double, 1)
    future.result(PATIENCE_S)
    with pytest.raises(SystemExit):
        future.add_done_callback(lambda _: leave("SystemExit"))


def test_coroutines_can_wait_beside_a_callback_that_leaves(executor: ProcessPoolExecutor) -> None:
    async def main() -> int:
        with Gate() as gate:
            future = executor.submit(hold, gate.address, 3)
            future.add_done_callback(lambda _: leave("KeyboardInterrupt"))
            waiting = asyncio.wrap_future(future)
            (await gate.arrival()).let_through()
            return await asyncio.wait_for(waiting, PATIENCE_S)

    assert asyncio.run(main()) == 3


def test_the_pools_errors_are_the_standard_librarys_too(executor: ProcessPoolExecutor) -> None:
    lost = executor.submit(exit_hard, 3).exception(PATIENCE_S)
    assert isinstance(lost, lifepool.WorkerLost)
    assert isinstance(lost, BrokenProcessPool)
    assert isinstance(lost, BrokenExecutor)
    assert (lost.exitcode, str(lost)) == (3, str(lifepool.WorkerLost(exitcode=3)))
    refused = executor.submit(echo, threading.Lock()).exception(PATIENCE_S)
    assert isinstance(refused, TaskNotPicklable)
    assert isinstance(refused, pickle.PicklingError)
    assert refused.path == "args[0]"
    for error in (lost, refused):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_so_is_the_error_of_workers_that_can_not_start() -> None:
    with ProcessPoolExecutor(1, initializer=fail, initargs=("no model",)) as executor:
        error = executor.submit(double, 1).exception(PATIENCE_S)
    assert isinstance(error, lifepool.WorkerStartError)
    assert isinstance(error, BrokenProcessPool)


def test_the_cause_of_what_a_task_raises_is_of_the_standard_librarys_class(executor: ProcessPoolExecutor) -> None:
    error = executor.submit(fail, "no luck").exception(PATIENCE_S)
    assert error is not None
    cause: Any = error.__cause__
    assert type(cause) is vars(concurrent.futures.process)["_RemoteTraceback"]
    assert "in fail" in cause.tb
