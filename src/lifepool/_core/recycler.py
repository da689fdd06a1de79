"""The recycler: when a worker has served long enough, and how one is replaced without a dip in capacity.

Successor first: another worker is started while the old one goes on, and when that is ready the old one finishes what
it runs and goes. With ``max_tasks_per_worker`` the successor is started as many tasks ahead as it takes to start, by
the last start and the worker's own pace. A worker above ``max_worker_memory``, or with views of too many shared
arguments, is let go at once: there, what it has is the problem. ``RecycleRequested`` replaces all workers there are,
one after another.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import policy
from lifepool._core.states import ExitReason, WorkerState
from lifepool.errors import WorkerStartError

if TYPE_CHECKING:
    from lifepool._core.decision import DecisionContext
    from lifepool._core.events import KeptViews, TaskReturned
    from lifepool._core.fleet import Worker
    from lifepool._core.supervisor import Supervisor
    from lifepool.errors import PoolError


class Recycler:
    """Replace workers that have done their share.

    Args:
        decision: Shared by all parts of the scheduler.
        supervisor: Owns the fleet.

    Attributes:
        is_needed: Whether every answer is to be looked at.
    """

    def __init__(self, decision: DecisionContext, supervisor: Supervisor) -> None:
        self._decision = decision
        self._supervisor = supervisor
        self._limits = limits = decision.limits
        self.is_needed = limits.max_tasks_per_worker is not None or limits.max_worker_memory is not None
        self._to_replace: deque[int] = deque()  # still to come, in a replacement of all
        self._current = 0  # the one whose successor is being started
        self._replacing = False

    def after_task(self, worker: Worker, event: TaskReturned, *, running: bool) -> None:
        """Let a busy worker go that has done its share, or start its successor if it soon will have.

        Args:
            worker: The worker, which has answered a task.
            event: What it answered.
            running: Whether the pool takes tasks, so that a successor is of use.
        """
        reason = self._reason_to_retire(worker, event)
        if reason is not None:
            self._supervisor.retire(worker, reason)
            if running:
                self._supervisor.ensure_minimum()
        elif running and self._is_near_its_last(worker):
            self._supervisor.prepare_successor(worker)

    def _reason_to_retire(self, worker: Worker, event: TaskReturned) -> ExitReason | None:
        most, memory = self._limits.max_worker_memory, event.memory
        if event.kept is not None and self._keeps_too_much(event.kept):
            self._decision.out.append(do.WarnOfKeptViews(worker.id, event.kept))
            return ExitReason.KEPT_VIEWS
        if self._supervisor.fleet.retires_after(worker, 0):
            return ExitReason.MAX_TASKS
        if most is not None and memory is not None and memory > most:
            return ExitReason.MAX_MEMORY
        return None

    def _keeps_too_much(self, kept: KeptViews) -> bool:
        most = self._limits.max_kept_bytes
        return kept.tasks > policy.KEPT_VIEWS_MOST or (most is not None and kept.size > most)

    def _is_near_its_last(self, worker: Worker) -> bool:
        """Return whether the worker's successor has to be started now to be ready in time."""
        most, now = self._limits.max_tasks_per_worker, self._decision.now
        if most is None:
            return False
        pace_s = (now - (worker.ready_at or now)) / max(1, worker.completed)
        lead = policy.recycle_lead(most, self._supervisor.last_start_s, pace_s)
        return self._supervisor.fleet.retires_after(worker, lead)

    # -- all of them ----------------------------------------------------------------------------------------------

    def replace_all(self) -> None:
        """Replace every worker there is, one after another, and report when the last successor has taken over."""
        self._replacing = True
        self._to_replace.extend(self._supervisor.fleet.workers)
        if not self._supervisor.may_start():
            self.end(self._supervisor.crash_loop or WorkerStartError("starts of workers are being backed off from"))
        self.go_on()

    def go_on(self) -> None:
        """Replace the next worker, if the one before it is replaced; called when a worker is ready or gone."""
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
                self._supervisor.replace(worker, ExitReason.RECYCLED)
                return
        self.end()

    def end(self, error: PoolError | None = None) -> None:
        """Report that all are replaced; with an error, report that those which are left stay."""
        if self._replacing:
            self._replacing = False
            self._to_replace.clear()
            self._decision.out.append(do.ReportRecycled(error))

    @staticmethod
    def _serves(worker: Worker | None) -> bool:
        return worker is not None and worker.state in (WorkerState.READY, WorkerState.BUSY)
