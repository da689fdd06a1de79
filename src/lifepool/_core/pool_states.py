"""How a pool starts, drains and ends."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import policy
from lifepool._core.states import POOL_TRANSITIONS, ExitReason, PoolState, TaskState, WorkerState, moved
from lifepool._core.timers import Timer
from lifepool.errors import PoolClosed, WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool._core import events as on
    from lifepool._core.decision import DecisionContext
    from lifepool._core.recycler import Recycler
    from lifepool._core.supervisor import Supervisor
    from lifepool._core.task import Task
    from lifepool._core.task_table import TaskTable

#: For so many parts the numbers of their tasks are looked up at a time.
_PARTS_LOOKED_UP = 100


class PoolStates:
    """Move the pool from state to state, and report when it is up, closed, or recycled.

    Args:
        decision: Shared by all parts of the scheduler.
        table: All tasks without an outcome.
        supervisor: Owns the fleet.
        recycler: Replaces workers, until the pool ends.

    Attributes:
        is_over: Whether it was reported that the pool is closed.
    """

    def __init__(self, decision: DecisionContext, table: TaskTable, supervisor: Supervisor, recycler: Recycler) -> None:
        self._decision = decision
        self._table = table
        self._supervisor = supervisor
        self._fleet = supervisor.fleet
        self._recycler = recycler
        self.is_over: bool = False
        self._numbers: deque[int] = deque()  # of the tasks that are settled next; some may have an outcome already

    def _move(self, state: PoolState) -> None:
        decision = self._decision
        decision.pool_state = moved(POOL_TRANSITIONS, decision.pool_state, state, "the pool")
        if state.is_ending:
            self._recycler.end(PoolClosed("the pool is closing"))

    def on_start_requested(self, _: on.StartRequested) -> None:
        """Start the first workers; without any to start the pool is up at once."""
        self._move(PoolState.STARTING)
        self._supervisor.ensure_minimum()
        if not self._decision.limits.min_workers:
            self.report_started()

    def report_started(self) -> None:
        """Report that the pool is up."""
        self._move(PoolState.RUNNING)
        self._decision.out.append(do.ReportStarted())

    def on_recycle_requested(self, _: on.RecycleRequested) -> None:
        """Replace all workers, or report at once that the pool does not run."""
        if self._decision.pool_state is PoolState.RUNNING:
            self._recycler.replace_all()
        else:
            self._decision.out.append(do.ReportRecycled(PoolClosed("the pool does not run")))

    def on_drain_requested(self, event: on.DrainRequested) -> None:
        """Begin to drain; a pool that does not run is closed. The latest request sets the time there is."""
        decision = self._decision
        if decision.pool_state not in (PoolState.RUNNING, PoolState.DRAINING):
            self.on_close_requested()
            return
        if decision.pool_state is PoolState.RUNNING:
            self._move(PoolState.DRAINING)
        decision.timers.set((Timer.DRAIN, 0), decision.now + event.timeout)
        self.finish_drain()

    def finish_drain(self) -> None:
        """Let every worker go and close the pool, once nothing is left to do."""
        if self._table.tasks:
            return
        for worker in list(self._fleet):
            if worker.state is WorkerState.READY:
                self._supervisor.stop(worker, ExitReason.CLOSED)
            elif worker.state is WorkerState.STARTING:
                self._supervisor.kill(worker, ExitReason.CLOSED)
        if not len(self._fleet):
            self._move(PoolState.CLOSED)
            self.report_closed()

    def on_drain_overdue(self, _: int) -> None:
        """End a drain that has taken its whole timeout."""
        if self._decision.pool_state is PoolState.DRAINING:
            self.close()

    def on_close_requested(self, event: on.CloseRequested | None = None) -> None:
        """End now; a start that is under way has failed."""
        decision = self._decision
        if decision.pool_state is PoolState.STARTING:
            decision.out.append(do.ReportStarted(PoolClosed("the pool was closed while it started")))
        if decision.pool_state is not PoolState.CLOSED:
            self.close()
        if event is not None and event.at_once and self._table.tasks:
            self.settle_the_rest(len(self._table.tasks))
            self.report_closed()

    def close(self) -> None:
        """End now: kill all workers, settle the tasks that they have and some that wait; the others are next."""
        self._move(PoolState.CLOSED)
        for worker in list(self._fleet):
            for number in worker.tasks:  # before it is heard of their end
                if (task := self._table.tasks.get(number)) is not None:
                    self._table.settle(task, TaskState.CANCELLED, unfinished())
        self.settle_the_rest()
        for worker in list(self._fleet):
            self._supervisor.kill(worker, ExitReason.CLOSED)
        self.report_closed()

    def settle_the_rest(self, most: int | None = None) -> None:
        """Settle tasks that nobody will run, because no worker comes up or the pool is closed: some now, more later.

        Args:
            most: So many now; None: one part.
        """
        decision = self._decision
        crash = self._supervisor.crash_loop
        if crash is None and decision.pool_state is not PoolState.CLOSED:
            return  # a worker came up after all: it runs what is left
        for task in self._oldest(decision.limits.settled_at_once if most is None else most):
            if crash is None:
                self._table.settle(task, TaskState.CANCELLED, unfinished())
            else:
                self._table.settle(task, TaskState.LOST, WorkerStartError(crash.cause, hint=crash.hint))
        if self._table.tasks:
            decision.timers.set((Timer.SETTLE, 0), decision.now + policy.SETTLE_PAUSE_S)

    def _oldest(self, most: int) -> Iterator[Task]:
        """Yield so many tasks, the oldest first, while they are settled.

        The numbers are looked up for many parts at a time: to find the first entry of a dict, Python passes over all
        that were deleted before it.
        """
        tasks, found = self._table.tasks, 0
        while tasks and found < most:
            if not self._numbers:
                self._numbers.extend(islice(tasks, _PARTS_LOOKED_UP * self._decision.limits.settled_at_once))
            if (task := tasks.get(self._numbers.popleft())) is not None:
                found += 1
                yield task

    def on_settle(self, _: int) -> None:
        """Settle more tasks that nobody will run."""
        self.settle_the_rest()
        if self._decision.pool_state is PoolState.DRAINING:
            self.finish_drain()
        self.report_closed()

    def report_closed(self) -> None:
        """Report, once, that the pool is closed, all tasks have their outcomes, and all workers are gone."""
        is_over = self._decision.pool_state is PoolState.CLOSED and not self._table.tasks and not len(self._fleet)
        if is_over and not self.is_over:
            self.is_over = True
            self._decision.out.append(do.ReportClosed())


def unfinished() -> PoolClosed:
    """Make the error of a task that the end of the pool overtook."""
    return PoolClosed("the pool was closed before the task was done", hint="give it a longer drain_timeout")
