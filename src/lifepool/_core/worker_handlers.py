"""What follows from an event about a worker: it is ready, imports, or is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core.exits import exit_reason, lost_description, lost_error
from lifepool._core.states import PoolState, TaskState, WorkerState
from lifepool.errors import WorkerStartError

if TYPE_CHECKING:
    from lifepool._core import events as on
    from lifepool._core.decision import DecisionContext
    from lifepool._core.fleet import Worker
    from lifepool._core.pool_states import PoolStates
    from lifepool._core.recycler import Recycler
    from lifepool._core.supervisor import Supervisor
    from lifepool._core.task import Task
    from lifepool._core.task_handlers import TaskHandlers
    from lifepool._core.task_table import TaskTable


class WorkerHandlers:
    """Decide what follows from an event about a worker.

    Args:
        decision: Shared by all parts of the scheduler.
        table: All tasks without an outcome.
        supervisor: Owns the fleet.
        recycler: Replaces workers.
        pool: Starts and ends the pool.
        tasks: Gives waiting tasks to workers after a change.
    """

    def __init__(
        self,
        decision: DecisionContext,
        table: TaskTable,
        supervisor: Supervisor,
        recycler: Recycler,
        pool: PoolStates,
        tasks: TaskHandlers,
    ) -> None:
        self._decision = decision
        self._limits = decision.limits
        self._table = table
        self._supervisor = supervisor
        self._fleet = supervisor.fleet
        self._recycler = recycler
        self._pool = pool
        self._tasks = tasks

    def on_ready(self, event: on.WorkerReady) -> None:
        """Give the worker its first task, and let go the one that it replaces."""
        worker = self._fleet.workers.get(event.worker)
        if worker is None or worker.state is not WorkerState.STARTING:
            return
        self._supervisor.became_ready(worker, event.cpu_share)
        self._supervisor.retire_replaced()
        self._recycler.go_on()
        if self._decision.pool_state is PoolState.STARTING:
            if self._supervisor.withheld:
                self._supervisor.ensure_minimum()
            if not self._fleet.count(WorkerState.STARTING):
                self._pool.report_started()
        if self._decision.pool_state is PoolState.RUNNING:
            self._supervisor.ensure_minimum()
        self._tasks.after_change()

    def on_loading(self, event: on.WorkerLoading) -> None:
        """Note that the worker imports what its first task needs: that is no run time of the task."""
        worker = self._fleet.workers.get(event.worker)
        if worker is None or worker.state is WorkerState.STOPPING or self._limits.slots > 1:
            return
        if worker.tasks and worker.tasks[0] == event.task:
            self._supervisor.begins_import(worker, event.task)

    def on_loaded(self, event: on.WorkerLoaded) -> None:
        """Note that the worker runs its first task from now on."""
        worker = self._fleet.workers.get(event.worker)
        if worker is not None and worker.loading == event.task and worker.state is not WorkerState.STOPPING:
            self._supervisor.ends_import(worker)

    def on_exited(self, event: on.WorkerExited) -> None:
        """Replace the worker, and decide what becomes of the tasks that it had."""
        decision = self._decision
        worker = self._fleet.workers.get(event.worker)
        if worker is None:
            return
        reason = exit_reason(worker, event, now=decision.now, ending=decision.pool_state.is_ending)
        failure = self._supervisor.exited(worker, event, reason)
        unstarted = set(event.unstarted)
        self._table.requeue(tuple(task for task in worker.tasks if task in unstarted))
        for number in worker.tasks:
            if number not in unstarted and (task := self._table.tasks.get(number)) is not None:
                self._lose(task, event, worker)
        if failure is not None:
            self._on_failed_start(failure)
        self._recycler.go_on()
        if decision.pool_state is PoolState.RUNNING:
            self._supervisor.ensure_minimum()
        self._tasks.after_change()
        decision.out.append(do.ReportWorkerExit(worker.id, reason, worker.completed, event))
        self._pool.report_closed()

    def on_task_lost(self, event: on.TaskLost) -> None:
        """Free the slot of a task that was lost, and try the task again or settle it."""
        worker = self._fleet.workers.get(event.worker)
        if worker is None or event.task not in worker.tasks:
            return
        worker.tasks.remove(event.task)
        task = self._table.tasks.get(event.task)
        if event.task in event.end.unstarted:
            self._table.requeue((event.task,))
        elif task is not None:
            self._lose(task, event.end, worker)
        self._tasks.settle_down(worker)
        self._tasks.after_change()

    def on_task_refused(self, event: on.TaskRefused) -> None:
        """Fail a task that a cluster gave back, and that nobody else runs."""
        task = self._drop(event.worker, event.task)
        if task is not None:
            self._table.settle(task, TaskState.FAILED, event.error)
        self._tasks.after_change()

    def on_handed_over(self, event: on.TaskHandedOver) -> None:
        """Forget a task that another scheduler takes over, and free its slot."""
        task = self._table.tasks[event.task]
        self._table.release(task)
        if task.worker is not None:
            self._drop(task.worker.id, task.id)
        self._tasks.after_change()

    def _drop(self, number: int, task: int) -> Task | None:
        """Take a task from a worker's list, if it is there; return the task, if it has no outcome."""
        worker = self._fleet.workers.get(number)
        if worker is not None and task in worker.tasks:
            worker.tasks.remove(task)
            self._tasks.settle_down(worker)
        return self._table.tasks.get(task)

    def on_taken(self, event: on.TasksTaken) -> None:
        """Note when tasks left off waiting at the cluster."""
        for number in event.tasks:
            if (task := self._table.tasks.get(number)) is not None:
                task.taken = self._decision.now

    def on_resized(self, event: on.WorkerResized) -> None:
        """Fill the slots that came; of those that went, what runs there is finished."""
        worker = self._fleet.workers.get(event.worker)
        if worker is not None:
            worker.slots = event.slots
            worker.widest = max(worker.widest, event.slots)
            self._tasks.after_change()

    def _lose(self, task: Task, event: on.WorkerExited, worker: Worker) -> None:
        if task.retries > 0:
            self._table.retry(task)
            return
        description = lost_description(worker, event, self._limits.start_timeout)
        error = lost_error(event, description, self._decision.history.of(task=task.id))
        self._table.settle(task, TaskState.LOST, error)

    def _on_failed_start(self, failure: WorkerStartError) -> None:
        self._recycler.end(WorkerStartError(failure.cause, hint=failure.hint))
        if self._decision.pool_state is PoolState.STARTING:
            self._decision.out.append(do.ReportStarted(failure))
            self._pool.close()
        elif self._supervisor.crash_loop is not None:
            self._pool.settle_the_rest()

    def on_restart(self, _: int) -> None:
        """Start workers again after the backoff."""
        if self._decision.pool_state is PoolState.RUNNING:
            self._supervisor.try_again()
        self._tasks.after_change()
