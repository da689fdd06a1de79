"""A check that never fails checks nothing: each part of the state is spoiled once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lifepool._core import invariants
from lifepool._core.states import TaskState, WorkerState
from lifepool._core.timers import Timer
from lifepool.errors import InternalError
from tests.core.script import Script, knowing

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.scheduler import Scheduler


def busy_pool() -> Script:
    """Return a pool with busy workers, one more that is starting, and one task that waits."""
    pool = knowing(1.0, max_workers=4, min_workers=3, slots=1)
    for task in (1, 2, 3, 4):
        pool.submit(task)
    pool.submit(5)
    return pool


def _two_places(s: Scheduler) -> None:
    s._table.queue.push(1, priority=0, fair_key=None, submitted=0.0)


def _no_place(s: Scheduler) -> None:
    s._table.queue.remove(5)


def _wrong_worker(s: Scheduler) -> None:
    s._table.tasks[1].worker = s._table.tasks[2].worker


def _wrong_state(s: Scheduler) -> None:
    s._table.tasks[1].state = TaskState.QUEUED


def _ghost_in_the_queue(s: Scheduler) -> None:
    s._table.queue.push(99, priority=0, fair_key=None, submitted=0.0)


def _ghost_in_preparation(s: Scheduler) -> None:
    s._table.preparing.add(99)


def _imports_for_another(s: Scheduler) -> None:
    s.fleet.workers[1].loading = 99


def _too_many(s: Scheduler) -> None:
    s.fleet.workers[1].tasks += range(100, 150)


def _twice_the_same(s: Scheduler) -> None:
    s.fleet.workers[1].tasks += [100, 100]


def _idle_list(s: Scheduler) -> None:
    s.fleet.idle.append(s.fleet.workers[1])


def _tasks_of_a_starting_worker(s: Scheduler) -> None:
    s.fleet.workers[4].tasks.append(100)


def _more_workers_than_allowed(s: Scheduler) -> None:
    s.fleet.add(0.0)


def _miscounted(s: Scheduler) -> None:
    s.fleet.workers[1].counted = False


def _timer_of_a_settled_task(s: Scheduler) -> None:
    s._decision.timers.set((Timer.TASK_DEADLINE, 99), 0.0)


def _idle_timer_of_a_busy_worker(s: Scheduler) -> None:
    s._decision.timers.set((Timer.IDLE, 1), 0.0)


def _start_timer_of_a_worker_that_is_up(s: Scheduler) -> None:
    s._decision.timers.set((Timer.START, 1), 0.0)


def _kill_timer_of_a_worker_that_was_not_asked(s: Scheduler) -> None:
    s._decision.timers.set((Timer.KILL, 1), 0.0)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_two_places, "task 1 is not in exactly one place"),
        (_no_place, "task 5 is not in exactly one place"),
        (_wrong_worker, "task 1 does not know its worker"),
        (_wrong_state, "task 1 is QUEUED with 1 workers"),
        (_ghost_in_the_queue, "a settled task waits in the queue"),
        (_ghost_in_preparation, "a settled task is in preparation"),
        (_imports_for_another, "worker 1 imports for 99"),
        (_too_many, "worker 1 holds"),
        (_twice_the_same, "worker 1 holds"),
        (_idle_list, "worker 1 is BUSY; the idle list disagrees"),
        (_tasks_of_a_starting_worker, r"worker 4 is STARTING and holds \[100\]"),
        (_more_workers_than_allowed, "5 workers, more than max_workers"),
        (_miscounted, "4 workers counted, 3 there are"),
        (_timer_of_a_settled_task, "TASK_DEADLINE of 99"),
        (_idle_timer_of_a_busy_worker, "IDLE of 1"),
        (_start_timer_of_a_worker_that_is_up, "START of 1"),
        (_kill_timer_of_a_worker_that_was_not_asked, "KILL of 1"),
    ],
)
def test_a_spoiled_state_is_found(spoil: Callable[[Scheduler], None], complaint: str) -> None:
    scheduler = busy_pool().scheduler
    assert [worker.state for worker in scheduler.fleet] == [*[WorkerState.BUSY] * 3, WorkerState.STARTING]
    invariants.check(scheduler)
    spoil(scheduler)
    with pytest.raises(InternalError, match=complaint):
        invariants.check(scheduler)
