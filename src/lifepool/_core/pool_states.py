"""How a pool starts, drains and ends, as the scheduler decides it. ``Scheduler`` adds the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core import history as story
from lifepool._core.decision import Desk
from lifepool._core.recycler import Recycler
from lifepool._core.states import POOL_TRANSITIONS, PoolState, TaskState, WorkerState, moved
from lifepool._core.supervisor import Supervisor
from lifepool._core.timers import Timer
from lifepool.errors import PoolClosed

if TYPE_CHECKING:
    from lifepool._core.policy import Limits
    from lifepool._core.task import Task
    from lifepool.errors import PoolError


class SchedulerLife:
    """What a scheduler does apart from tasks.

    Args:
        limits: The pool's settings.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.state = PoolState.CREATED
        self._desk = Desk(limits)
        self._supervisor = Supervisor(self._desk)
        self.fleet = self._supervisor.fleet
        self._recycler = Recycler(self._desk, self._supervisor)
        self._tasks: dict[int, Task] = {}
        self._closed_reported = False

    def _settle(self, task: Task, outcome: TaskState, error: PoolError | None = None) -> None:
        """Give the task its outcome; the scheduler's."""
        raise NotImplementedError

    def _move(self, state: PoolState) -> None:
        self.state = moved(POOL_TRANSITIONS, self.state, state, "the pool")
        if state.is_ending:
            self._recycler.end(PoolClosed("the pool is closing"))

    def _on_start_requested(self, _: on.StartRequested) -> None:
        self._move(PoolState.STARTING)
        self._supervisor.ensure_minimum()
        if not self.limits.min_workers:
            self._report_started()

    def _report_started(self) -> None:
        self._move(PoolState.RUNNING)
        self._desk.out.append(do.ReportStarted())

    def _on_drain_requested(self, event: on.DrainRequested) -> None:
        if self.state not in (PoolState.RUNNING, PoolState.DRAINING):
            self._on_close_requested(on.CloseRequested())
            return
        if self.state is PoolState.RUNNING:
            self._move(PoolState.DRAINING)
        self._desk.timers.set((Timer.DRAIN, 0), self._desk.now + event.timeout)  # whoever asks last, decides
        self._finish_drain()

    def _finish_drain(self) -> None:
        """Let every worker go, once nothing is left to do."""
        if self._tasks:
            return
        for worker in list(self.fleet):
            if worker.state is WorkerState.READY:
                self._supervisor.stop(worker, "closed")
            elif worker.state is WorkerState.STARTING:
                self._supervisor.kill(worker, "closed")
        if not len(self.fleet):
            self._move(PoolState.CLOSED)
            self._report_closed()

    def _on_drain_overdue(self, _: int) -> None:
        if self.state is PoolState.DRAINING:
            self._close()

    def _on_close_requested(self, _: on.CloseRequested) -> None:
        if self.state is PoolState.STARTING:
            self._desk.out.append(do.ReportStarted(PoolClosed("the pool was closed while it started")))
        if self.state is not PoolState.CLOSED:
            self._close()

    def _close(self) -> None:
        """End now: settle what is left, kill who is left."""
        self._move(PoolState.CLOSED)
        for task in list(self._tasks.values()):
            self._settle(task, TaskState.CANCELLED, story.unfinished())
        for worker in list(self.fleet):
            self._supervisor.kill(worker, "closed")
        self._report_closed()

    def _report_closed(self) -> None:
        if self.state is PoolState.CLOSED and not len(self.fleet) and not self._closed_reported:
            self._closed_reported = True
            self._desk.out.append(do.ReportClosed())
