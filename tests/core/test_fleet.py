from __future__ import annotations

from typing import Any

import pytest

from lifepool._core.fleet import Fleet, Worker
from lifepool._core.policy import OVERRUN_S
from lifepool._core.states import ExitReason, WorkerState
from lifepool.errors import InternalError
from tests.core.script import NOON, limits_for


def fleet_of(ready: int, **limits: Any) -> tuple[Fleet, list[Worker]]:
    fleet = Fleet(limits_for(**{"max_workers": 4} | limits))
    workers = [fleet.add(0.0) for _ in range(ready)]
    for worker in workers:
        fleet.set_ready(worker)
    return fleet, workers


def busy(fleet: Fleet, worker: Worker, *tasks: int, since: float = NOON) -> None:
    fleet.set_busy(worker)
    worker.tasks = list(tasks)
    worker.head_since = since


def test_numbers_are_never_used_twice() -> None:
    fleet, (first,) = fleet_of(1)
    assert fleet.remove(first.id) is first
    assert fleet.add(0.0).id == 2
    assert first.state is WorkerState.DEAD


def test_a_worker_that_was_forgotten_is_forgotten() -> None:
    fleet, (worker,) = fleet_of(1)
    fleet.remove(worker.id)
    assert fleet.remove(worker.id) is None
    assert (len(fleet), fleet.counted(), fleet.idle) == (0, 0, [])


def test_the_most_recently_used_worker_is_taken_first() -> None:
    fleet, (first, second) = fleet_of(2)
    assert fleet.free_worker() is second
    busy(fleet, second, 1)
    assert fleet.free_worker() is first
    busy(fleet, first, 2)
    assert fleet.free_worker() is None
    second.tasks.clear()
    fleet.set_ready(second)
    assert fleet.free_worker() is second


def test_a_worker_with_slots_is_free_until_they_are_taken() -> None:
    fleet, (worker,) = fleet_of(1, slots=2)
    busy(fleet, worker, 1)
    assert fleet.free_worker() is worker
    worker.tasks.append(2)
    assert fleet.free_worker() is None


def test_who_is_on_its_way_out_makes_room_once() -> None:
    fleet, (idle, working) = fleet_of(2)
    starting = fleet.add(0.0)
    busy(fleet, working, 1)
    assert fleet.counted() == 3
    fleet.set_leaving(working, WorkerState.DRAINING, ExitReason.MAX_MEMORY)
    assert fleet.counted() == 2
    fleet.set_leaving(working, WorkerState.STOPPING, ExitReason.CLOSED)
    fleet.set_leaving(idle, WorkerState.STOPPING, ExitReason.CLOSED)
    fleet.uncount(idle)
    assert (fleet.counted(), fleet.idle) == (1, [])
    assert (working.exit_reason, idle.exit_reason) == (ExitReason.MAX_MEMORY, ExitReason.CLOSED), (
        "the first reason is the reason"
    )
    fleet.remove(starting.id)
    assert fleet.counted() == 0


def test_workers_are_counted_by_state() -> None:
    fleet, (_, working) = fleet_of(2)
    fleet.add(0.0)
    busy(fleet, working, 1)
    assert fleet.count(WorkerState.READY) == 1
    assert fleet.count(WorkerState.BUSY, WorkerState.STARTING) == 2
    assert [worker.id for worker in fleet] == [1, 2, 3]


def test_the_shortest_pipeline_gets_the_task() -> None:
    fleet, (a, b, c) = fleet_of(3)
    busy(fleet, a, 1, 2, 3)
    busy(fleet, b, 4, 5)
    assert fleet.pipeline_worker(8, NOON - OVERRUN_S) is b
    assert fleet.pipeline_worker(3, NOON - OVERRUN_S) is b
    assert fleet.pipeline_worker(2, NOON - OVERRUN_S) is None
    busy(fleet, c, 6)
    assert fleet.pipeline_worker(2, NOON - OVERRUN_S) is c


@pytest.mark.parametrize("spoil", ["overrun", "interrupted", "last task", "leaving"])
def test_nothing_is_pipelined_behind(spoil: str) -> None:
    fleet, (worker,) = fleet_of(1, max_tasks_per_worker=5)
    busy(fleet, worker, 1)
    assert fleet.pipeline_worker(8, NOON - OVERRUN_S) is worker
    if spoil == "overrun":
        worker.head_since = NOON - 1.01 * OVERRUN_S
    elif spoil == "interrupted":
        worker.interrupted = 1
    elif spoil == "last task":
        worker.completed = 4
    else:
        fleet.set_leaving(worker, WorkerState.DRAINING, ExitReason.MAX_MEMORY)
    assert fleet.pipeline_worker(8, NOON - OVERRUN_S) is None


def test_a_worker_retires_after_its_last_task_and_without_a_limit_never() -> None:
    fleet, (worker,) = fleet_of(1, max_tasks_per_worker=3)
    worker.completed = 2
    assert not fleet.retires_after(worker, 0)
    assert fleet.retires_after(worker, 1)
    endless, (worker,) = fleet_of(1)
    worker.completed = 10**9
    assert not endless.retires_after(worker, 10**9)


def test_an_illegal_move_is_an_internal_error() -> None:
    fleet, (worker,) = fleet_of(1)
    fleet.set_leaving(worker, WorkerState.STOPPING, ExitReason.CLOSED)
    with pytest.raises(InternalError, match="worker 1 can't go from STOPPING to READY"):
        worker.move(WorkerState.READY)
