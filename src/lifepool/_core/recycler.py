"""The recycler: when a worker has served long enough, and how one is replaced without a dip in capacity.

Successor first: another worker is started while the old one goes on, and when that is ready the old one finishes what
it runs and goes. With ``max_tasks_per_worker`` the successor is started as many tasks ahead as it takes to start, by
the last start and the worker's own pace. A worker above ``max_worker_memory`` is let go at once: there, what it holds
is the problem. ``RecycleRequested`` replaces all workers there are, one after another.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import policy
from lifepool._core.states import WorkerState
from lifepool.errors import WorkerStartError

if TYPE_CHECKING:
    from lifepool._core.decision import Desk
    from lifepool._core.events import TaskReturned
    from lifepool._core.fleet import Worker
    from lifepool._core.supervisor import Supervisor
    from lifepool.errors import PoolError


class Recycler:
    """Replaces workers that have done their share.

    Args:
        desk: Shared with the scheduler.
        supervisor: Owns the fleet.
    """

    def __init__(self, desk: Desk, supervisor: Supervisor) -> None:
        self._desk = desk
        self._supervisor = supervisor
        self._limits = limits = desk.limits
        self.is_needed = limits.max_tasks_per_worker is not None or limits.max_worker_memory is not None
        self._to_replace: deque[int] = deque()  # still to come, in a replacement of all
        self._current = 0  # the one whose successor is being started
        self._replacing = False

    def after_task(self, worker: Worker, event: TaskReturned, *, running: bool) -> None:
        """A busy worker has answered: see whether it has done its share, or soon will have.

        Args:
            worker: The worker.
            event: What it answered.
            running: Whether the pool takes tasks, so that a successor is of use.
        """
        fleet, limits, memory = self._supervisor.fleet, self._limits, event.memory
        if event.retire:
            self._retire(worker, event.retire, running=running)
        elif fleet.retires_after(worker, 0):
            self._retire(worker, "max_tasks_per_worker", running=running)
        elif limits.max_worker_memory is not None and memory is not None and memory > limits.max_worker_memory:
            self._retire(worker, "max_worker_memory", running=running)
        elif running and limits.max_tasks_per_worker is not None and fleet.retires_after(worker, self._lead(worker)):
            self._supervisor.prepare_successor(worker)

    def _retire(self, worker: Worker, why: str, *, running: bool) -> None:
        self._supervisor.retire(worker, why)
        if running:
            self._supervisor.ensure_minimum()

    def _lead(self, worker: Worker) -> int:
        """How many tasks before its last one the worker's successor is to be started."""
        assert self._limits.max_tasks_per_worker is not None  # noqa: S101 - asked for by after_task
        served_s = self._desk.now - (worker.ready_at or self._desk.now)
        pace_s = served_s / max(1, worker.completed)
        return policy.recycle_lead(self._limits.max_tasks_per_worker, self._supervisor.last_start_s, pace_s)

    # -- all of them ----------------------------------------------------------------------------------------------

    def replace_all(self) -> None:
        """Replace every worker there is, one after another, and report when the last successor has taken over."""
        self._replacing = True
        self._to_replace.extend(self._supervisor.fleet.workers)
        if not self._supervisor.may_start():
            self.end(self._supervisor.crash_loop or WorkerStartError("starts of workers are being backed off from"))
        self.go_on()

    def go_on(self) -> None:
        """A worker came up, or is gone: it may be the next one's turn."""
        workers = self._supervisor.fleet.workers
        if not self._replacing or self._serves(workers.get(self._current)):
            return
        while self._to_replace:
            worker = workers.get(self._to_replace[0])
            if worker is not None and worker.state is WorkerState.STARTING:
                return  # its turn comes when it is ready
            self._to_replace.popleft()
            if worker is not None and self._serves(worker):
                self._current = worker.id
                self._supervisor.succeed(worker, "recycled")
                return
        self.end()

    def end(self, error: PoolError | None = None) -> None:
        """All are replaced; or with an error: those that are left stay."""
        if self._replacing:
            self._replacing = False
            self._to_replace.clear()
            self._desk.out.append(do.ReportRecycled(error))

    @staticmethod
    def _serves(worker: Worker | None) -> bool:
        return worker is not None and worker.state in (WorkerState.READY, WorkerState.BUSY)
