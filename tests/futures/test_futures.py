"""`lifepool.futures.ProcessPoolExecutor`: futures."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, Future, as_completed, wait
from pathlib import Path
from typing import Any

import pytest

from lifepool.futures import ProcessPoolExecutor
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.futures.helpers import arrive, value
from tests.tasks import double, echo, fail, hold


def test_a_queued_task_can_be_cancelled_and_never_runs(
    executor: ProcessPoolExecutor, gate: Gate, tmp_path: Path
) -> None:
    first = executor.submit(hold, gate.address, "first")
    visitor = arrive(gate)
    second = executor.submit(Path.touch, tmp_path / "ran")
    assert second.cancel()
    assert second.cancelled()
    with pytest.raises(CancelledError):
        value(second)
    visitor.let_through()
    assert value(first) == "first"
    assert value(executor.submit(double, 1)) == 2
    assert not (tmp_path / "ran").exists()


def test_a_running_task_can_be_cancelled_and_is_broken_off(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = executor.submit(hold, gate.address)
    visitor = arrive(gate)
    assert future.cancel()
    asyncio.run(visitor.gone())
    assert value(executor.submit(double, 1)) == 2


def test_a_finished_task_can_no_longer_be_cancelled(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(double, 1)
    assert value(future) == 2
    assert not future.cancel()
    assert value(future) == 2


def test_wait_hears_of_results_errors_and_cancelled_ones(executor: ProcessPoolExecutor, gate: Gate) -> None:
    good, bad, held = executor.submit(double, 1), executor.submit(fail, "x"), executor.submit(hold, gate.address)
    arrive(gate)
    waiting = executor.submit(double, 2)
    waiting.cancel()
    everything: list[Future[Any]] = [good, bad, waiting, held]
    assert not wait(everything[:-1], timeout=PATIENCE_S).not_done
    done, open_ones = wait(everything, timeout=0.01)
    assert (done, open_ones) == ({good, bad, waiting}, {held})
    held.cancel()
    done, open_ones = wait([held], timeout=PATIENCE_S)
    assert (done, open_ones) == ({held}, set())


def test_as_completed_hands_out_what_is_ready_first(gate: Gate) -> None:
    with ProcessPoolExecutor(2) as executor:
        slow = executor.submit(hold, gate.address, "slow")
        visitor = arrive(gate)
        quick = executor.submit(echo, "quick")
        completed = as_completed([slow, quick], timeout=PATIENCE_S)
        assert next(completed) is quick
        visitor.let_through()
        assert next(completed) is slow


def test_a_callback_is_called_once_the_answer_is_there(executor: ProcessPoolExecutor) -> None:
    answered = threading.Event()
    seen: list[int] = []

    def note(done: Future[int]) -> None:
        seen.append(done.result())
        answered.set()

    executor.submit(double, 4).add_done_callback(note)
    assert answered.wait(PATIENCE_S)
    assert seen == [8]


def test_waiting_for_a_result_can_be_limited(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = executor.submit(hold, gate.address, "late")
    visitor = arrive(gate)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    visitor.let_through()
    assert value(future) == "late"


def test_running_tells_the_truth(executor: ProcessPoolExecutor, gate: Gate) -> None:
    first = executor.submit(hold, gate.address)
    waiting = [executor.submit(double, number) for number in range(20)]
    visitor = arrive(gate)
    asyncio.run(until(first.running))  # the thread of the pool may note it later than its task has begun
    assert not waiting[-1].running()
    assert not first.done()
    visitor.let_through()
    wait([first, *waiting], timeout=PATIENCE_S)
    assert not first.running()
