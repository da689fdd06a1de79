"""What must be true of the scheduler's state between any two events. For tests: it costs a look at everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import policy
from lifepool._core.states import TaskState, WorkerState
from lifepool._core.timers import Timer
from lifepool.errors import InternalError

if TYPE_CHECKING:
    from lifepool._core.scheduler import Scheduler


def check(scheduler: Scheduler) -> None:
    """Derive the scheduler's state from scratch, and compare.

    Raises:
        InternalError: If the two disagree.
    """
    _check_tasks(scheduler)
    _check_workers(scheduler)
    _check_timers(scheduler)


def _check_tasks(scheduler: Scheduler) -> None:
    # It reads the scheduler's private attributes, which nothing else may.
    table, timers = scheduler._table, scheduler._decision.timers
    tasks, queue = table.tasks, table.queue
    for task in tasks.values():
        holders = [worker for worker in scheduler.fleet if task.id in worker.tasks]
        retrying = (Timer.RETRY, task.id) in timers
        if (task.id in queue) + (task.id in table.preparing) + retrying + len(holders) != 1:
            raise InternalError(f"task {task.id} is not in exactly one place", scheduler.history(task=task.id))
        if holders != ([] if task.worker is None else [task.worker]):
            raise InternalError(f"task {task.id} does not know its worker", scheduler.history(task=task.id))
        if (task.state is TaskState.RUNNING) is not bool(holders):
            raise InternalError(f"task {task.id} is {task.state.name} with {len(holders)} workers")
    if any(number not in tasks for number in queue.numbers()):
        raise InternalError("a settled task waits in the queue")
    if not table.preparing <= tasks.keys():
        raise InternalError("a settled task is in preparation")


def _check_workers(scheduler: Scheduler) -> None:
    for worker in scheduler.fleet:
        most = worker.widest if scheduler.limits.slots > 1 else policy.PIPELINE_MOST
        if len(worker.tasks) > most or len(worker.tasks) != len(set(worker.tasks)):
            raise InternalError(f"worker {worker.id} holds {worker.tasks}")
        if worker.loading is not None and worker.loading not in worker.tasks[:1]:
            raise InternalError(f"worker {worker.id} imports for {worker.loading} and holds {worker.tasks}")
        if (worker.state is WorkerState.READY) is not (worker in scheduler.fleet.idle):
            raise InternalError(f"worker {worker.id} is {worker.state.name}; the idle list disagrees")
        if (worker.state is WorkerState.BUSY) is not (worker.id in scheduler.fleet.busy):
            raise InternalError(f"worker {worker.id} is {worker.state.name}; the busy ones disagree")
        if worker.state in (WorkerState.READY, WorkerState.STARTING) and worker.tasks:
            raise InternalError(f"worker {worker.id} is {worker.state.name} and holds {worker.tasks}")
    counted = sum(worker.counted for worker in scheduler.fleet)
    if scheduler.fleet.counted() != counted:
        raise InternalError(f"{scheduler.fleet.counted()} workers counted, {counted} there are")
    if counted > scheduler.limits.max_workers:
        raise InternalError(f"{counted} workers, more than max_workers")


def _check_timers(scheduler: Scheduler) -> None:
    tasks, workers = scheduler._table.tasks, scheduler.fleet.workers
    for timer, number in scheduler._decision.timers.live():
        worker = workers.get(number)
        has_cause = {
            Timer.TASK_DEADLINE: number in tasks,
            Timer.RETRY: number in tasks,
            Timer.KILL: worker is not None
            and (worker.interrupted in worker.tasks or worker.state is WorkerState.STOPPING),
            Timer.START: worker is not None and (worker.state is WorkerState.STARTING or worker.loading is not None),
            Timer.IDLE: worker is not None and worker.state is WorkerState.READY,
        }
        if not has_cause.get(timer, True):
            raise InternalError(f"nothing is left to do for the timer {timer.name} of {number}")
