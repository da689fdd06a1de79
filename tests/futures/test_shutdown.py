"""`lifepool.futures.ProcessPoolExecutor`: `shutdown`."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, NoReturn

import pytest

from lifepool.futures import WorkerLost

if TYPE_CHECKING:
    from collections.abc import Callable

from lifepool.futures import ProcessPoolExecutor
from tests.engine.gates import PATIENCE_S, Gate
from tests.futures.helpers import arrive, value
from tests.tasks import double, hold


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("threading.Thread.start", RuntimeError("can't start new thread")),
        ("asyncio.new_event_loop", OSError(errno.EMFILE, "Too many open files")),
    ],
)
def test_a_call_for_which_the_system_has_nothing_left_is_refused_and_the_next_one_runs(
    where: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise error

    with ProcessPoolExecutor(1) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(where, refuse)
            with pytest.raises(type(error), match=str(error.args[-1])):
                executor.submit(double, 1)
        assert executor.submit(double, 21).result(timeout=PATIENCE_S) == 42


def test_after_shutdown_nothing_is_taken() -> None:
    for executor in (ProcessPoolExecutor(1), ProcessPoolExecutor(1)):
        executor.shutdown()
        executor.shutdown()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(double, 1)
        with pytest.raises(RuntimeError):
            list(executor.map(double, [1]))


def test_shutdown_finishes_what_is_there(gate: Gate) -> None:
    executor = ProcessPoolExecutor(1)
    futures = [executor.submit(hold, gate.address, "held"), *(executor.submit(double, n) for n in range(5))]
    visitor = arrive(gate)
    executor.shutdown(wait=False)
    assert not futures[0].done()
    visitor.let_through()
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == ["held", 0, 2, 4, 6, 8]


def test_shutdown_can_cancel_what_waits_and_still_finishes_what_runs(gate: Gate) -> None:
    executor = ProcessPoolExecutor(1)
    running = executor.submit(hold, gate.address, "held")
    visitor = arrive(gate)
    waiting = [executor.submit(double, number) for number in range(5)]
    executor.shutdown(wait=False, cancel_futures=True)
    done, _ = wait(waiting, timeout=PATIENCE_S)
    assert done == set(waiting)
    visitor.let_through()
    executor.shutdown()
    assert running.result(timeout=0) == "held"
    assert all(future.cancelled() for future in waiting)


def test_while_the_workers_start_calls_can_be_cancelled(gate: Gate) -> None:
    with ProcessPoolExecutor(1, initializer=hold, initargs=(gate.address,)) as executor:
        first, second = executor.submit(double, 1), executor.submit(double, 2)
        visitor = arrive(gate)
        assert first.cancel()
        visitor.let_through()
        done, _ = wait([first, second], timeout=PATIENCE_S)
        assert done == {first, second}
        assert value(second) == 4


def test_shutdown_while_the_workers_start_can_cancel_all_calls(gate: Gate) -> None:
    executor = ProcessPoolExecutor(1, initializer=hold, initargs=(gate.address,))
    futures = [executor.submit(double, number) for number in range(3)]
    visitor = arrive(gate)
    executor.shutdown(wait=False, cancel_futures=True)
    visitor.let_through()
    done, _ = wait(futures, timeout=PATIENCE_S)
    assert done == set(futures)
    assert all(future.cancelled() for future in futures)
    executor.shutdown()


def test_shutdown_right_after_the_calls_loses_none() -> None:
    for _ in range(3):
        with ProcessPoolExecutor(1) as executor:
            futures = [executor.submit(double, number) for number in range(20)]
        assert [future.result(timeout=0) for future in futures] == [2 * number for number in range(20)]


def test_shutdown_from_a_callback_does_not_wait_for_itself() -> None:
    executor = ProcessPoolExecutor(1)
    returned = threading.Event()

    def end(_: Future[int]) -> None:
        executor.shutdown()
        returned.set()

    executor.submit(double, 1).add_done_callback(end)
    assert returned.wait(PATIENCE_S)
    executor.shutdown()


def test_a_forgotten_executor_finishes_its_work_and_ends() -> None:
    future = ProcessPoolExecutor(1).submit(double, 21)  # nobody holds the executor now
    gc.collect()
    assert value(future) == 42  # and the leak check of every test sees thread and worker go


@pytest.mark.parametrize("end", [ProcessPoolExecutor.terminate_workers, ProcessPoolExecutor.kill_workers])
def test_ended_workers_lose_what_they_run_and_what_waits_is_cancelled(
    end: Callable[[ProcessPoolExecutor], None], gate: Gate
) -> None:
    executor = ProcessPoolExecutor(1)
    running = executor.submit(hold, gate.address)
    visitor = arrive(gate)
    waiting = [executor.submit(double, number) for number in range(20)]
    end(executor)
    wait([running, *waiting], timeout=PATIENCE_S)
    assert isinstance(running.exception(0), BrokenProcessPool)
    assert all(future.cancelled() or isinstance(future.exception(0), WorkerLost) for future in waiting)
    assert waiting[-1].cancelled()
    asyncio.run(visitor.gone())
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)
    executor.shutdown()


@pytest.mark.parametrize("end", [ProcessPoolExecutor.terminate_workers, ProcessPoolExecutor.kill_workers])
def test_workers_that_are_ended_while_they_start_have_nothing_to_lose(
    end: Callable[[ProcessPoolExecutor], None], gate: Gate
) -> None:
    executor = ProcessPoolExecutor(1, initializer=hold, initargs=(gate.address,))
    future = executor.submit(double, 1)
    visitor = arrive(gate)
    end(executor)
    asyncio.run(visitor.gone())
    assert wait([future], timeout=PATIENCE_S).done
    executor.shutdown()
