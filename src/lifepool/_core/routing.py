"""One scheduler for a pool with two backends: this machine and a cluster, each with a scheduler of its own.

Theory of operation
    A task belongs to one of the two from its submission on; where it goes is decided when it is admitted (``order``).
    *Overflow*: to the cluster goes what the local scheduler would refuse, or would let wait for longer than
    ``target_wait``. *Fallback*: to the local scheduler goes what the cluster can't take, while the circuit breaker is
    not closed.

    A task of the cluster's that has provably not started *moves* to the local scheduler when the cluster gives it back,
    or when the breaker opens while it waits: with what is left of its timeout and of its retries, if it is admitted
    there. One that may have started is lost, and moves only as a retry. Nothing moves to the cluster.

    The cluster's workers have negative numbers, so that events and commands tell whose they are.

Rules
    1. Neither scheduler knows of the other. What passes between them are events.
    2. A task is with exactly one of them; so it gets exactly one outcome, and is counted once.
    3. While the pool drains the local scheduler ends last: until then tasks may still move to it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core.admission import closed_error
from lifepool._core.breaker import BreakerState, CircuitBreaker
from lifepool._core.scheduler import Scheduler
from lifepool._core.states import PoolState
from lifepool.errors import BackendUnavailable, PoolError, QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from lifepool._core.admission import Admission
    from lifepool._core.commands import Command
    from lifepool._core.counters import RunTimes, Tally
    from lifepool._core.policy import Limits
    from lifepool._core.states import TaskState
    from lifepool._core.task import Task
    from lifepool.errors import WorkerStartError


_NOT_UP = frozenset({PoolState.CREATED, PoolState.STARTING})


class RoutedScheduler:
    """Decide as ``Scheduler`` does, for two backends.

    Args:
        local: The settings for this machine.
        remote: The settings for the cluster; its workers are numbered downwards.
        prefers_remote: Whether tasks go to the cluster first (fallback), or to this machine first (overflow).
        target_wait: Seconds that a task may have to wait here before the cluster is preferred.
        random: Returns a number in [0, 1), for jitter.

    Attributes:
        local: Decides about this machine's workers.
        remote: Decides about the cluster.
        breaker: Whether tasks are sent to the cluster.
        prefers_remote: As given.
        moved: Tasks that were handed over from the cluster to this machine.
    """

    def __init__(
        self, local: Limits, remote: Limits, *, prefers_remote: bool, target_wait: float, random: Callable[[], float]
    ) -> None:
        self.local: Scheduler = Scheduler(local, random=random)
        self.remote: Scheduler = Scheduler(remote, random=random)
        self.breaker: CircuitBreaker = CircuitBreaker()
        self.prefers_remote = prefers_remote
        self.moved: int = 0
        self.admission: RoutedAdmission = RoutedAdmission(self, target_wait)
        self._target_wait = target_wait
        self._now = 0.0
        self._out: list[Command] = []
        self._armed: float | None = None
        self._alarms = {False: inf, True: inf}  # of the local scheduler, and of the cluster's
        self._ends: float | None = None  # while it drains: the instant at which that ends
        self._handlers: dict[type, Callable[..., None]] = {
            on.TaskSubmitted: self._on_submitted,
            on.TaskPrepared: self._to_owner,
            on.TaskCancelled: self._to_owner,
            on.TaskReturned: self._on_returned,
            on.TaskLost: self._on_lost,
            on.TaskRefused: self._on_refused,
            on.ReachChanged: lambda event: self.breaker.reach(event.unreachable, self._now),
            on.TimerFired: self._on_timer_fired,
            on.StartRequested: self._to_both,
            on.CloseRequested: self._to_both,
            on.DrainRequested: self._on_drain_requested,
        }

    # -- deciding -------------------------------------------------------------------------------------------------

    def handle(self, event: on.Event, now: float) -> list[Command]:
        """Apply one event and return what to do next; see ``Scheduler.handle``."""
        self._now = now
        self._out = out = list[do.Command]()
        times_opened = self.breaker.opened
        (self._handlers.get(type(event)) or self._to_workers_side)(event)
        if self.breaker.state is not BreakerState.CLOSED and self.remote.state is not PoolState.CLOSED:
            self._move_waiting(self.remote.queued() if self.breaker.opened == times_opened else self.remote.unsent())
        if self._ends is not None:
            self._drain_here()
        earliest = min(self._alarms.values())
        if earliest < inf and (self._armed is None or earliest < self._armed):
            self._armed = earliest
            out.append(do.SetTimer(earliest))
        return out

    def _give(self, event: on.Event, *, remote: bool) -> None:
        """Have one of the two decide about an event; what it reports of itself is for both together."""
        before = self.state
        for command in (self.remote if remote else self.local).handle(event, self._now):
            if isinstance(command, do.SetTimer):
                self._alarms[remote] = command.when
            elif isinstance(command, do.ReportStarted):
                self._report_started(command.error, before, remote=remote)
            elif not isinstance(command, do.ReportClosed):
                if remote and isinstance(command, do.Settle):
                    self.breaker.ended(command.task)
                self._out.append(command)
            elif self.local.is_over and self.remote.is_over:
                self._out.append(command)

    def _report_started(self, error: PoolError | None, before: PoolState, *, remote: bool) -> None:
        if error is None and (self.state is PoolState.STARTING or before is PoolState.RUNNING):
            return  # the other one is not up yet, or was all that was waited for
        self._out.append(do.ReportStarted(error))
        if error is not None and before is PoolState.STARTING:
            self._give(on.CloseRequested(), remote=not remote)

    def _to_workers_side(self, event: on.Event) -> None:
        self._give(event, remote=getattr(event, "worker", 0) < 0)

    def _to_both(self, event: on.Event) -> None:
        self._give(event, remote=True)
        self._give(event, remote=False)

    def _to_owner(self, event: on.TaskPrepared | on.TaskCancelled) -> None:
        self._give(event, remote=self.remote.task(event.task) is not None)

    def _on_submitted(self, event: on.TaskSubmitted) -> None:
        if event.remote:
            self.breaker.sent(event.task, self._now)
        self._give(event, remote=event.remote)

    def _on_timer_fired(self, event: on.TimerFired) -> None:
        self._armed = None
        for remote, when in self._alarms.items():
            if when <= self._now:
                self._alarms[remote] = inf
                self._give(event, remote=remote)

    # -- what the cluster does with its tasks -----------------------------------------------------------------------

    def _on_returned(self, event: on.TaskReturned) -> None:
        if event.worker < 0 and (event.succeeded or event.run_s > 0):
            self.breaker.answered(self._now)
        self._to_workers_side(event)

    def _on_lost(self, event: on.TaskLost) -> None:
        end = event.end
        if end.exitcode is None and end.signal is None and event.task not in end.unstarted:
            self.breaker.failed(end.reason or "a node has lost a task", self._now)  # else the task did that itself
        self._to_workers_side(event)
        if self.breaker.state is not BreakerState.CLOSED and (task := self.remote.task(event.task)) is not None:
            self._move_waiting([task])  # it has a retry

    def _on_refused(self, event: on.TaskRefused) -> None:
        self.breaker.failed(str(event.error), self._now)
        task = self.remote.task(event.task)
        if task is None or not self._moves(task):
            self._give(event, remote=True)

    def _move_waiting(self, waiting: list[Task]) -> None:
        """Move what waits for a cluster that takes nothing; fail what is not admitted here either, if it is lost."""
        for task in waiting:
            if task.worker is None and not self._moves(task):  # it may have been sent when another one had moved
                if self.breaker.unreachable is None:
                    return
                self._give(on.TaskRefused(0, task.id, unavailable(self.breaker)), remote=True)

    def _moves(self, task: Task) -> bool:
        """Hand a task that the cluster has not started over to the local scheduler, if it is admitted there."""
        left = None if task.timeout is None else task.submitted + task.timeout - self._now
        if self.local.admission.refusal(left, task.fair_key, task.name) is not None:
            return False
        self.moved += 1
        self._give(on.TaskHandedOver(task.id), remote=True)
        adopted = on.TaskAdopted(
            task.id, task.name, task.priority, task.timeout, task.retries, task.fair_key, preparing=True, firm=True,
            submitted=task.submitted, attempts=task.attempts,
        )  # fmt: skip
        self._give(adopted, remote=False)
        self._out.append(do.PreparePayload(task.id))
        return True

    # -- the end --------------------------------------------------------------------------------------------------

    def _on_drain_requested(self, event: on.DrainRequested) -> None:
        self._ends = self._now + event.timeout
        if self.remote.state is PoolState.CLOSED:
            self._give(event, remote=False)
        else:
            self._give(event, remote=True)

    def _drain_here(self) -> None:
        """Drain the local scheduler, once nothing can come from the cluster any more."""
        if self.remote.state is PoolState.CLOSED and not self.local.state.is_ending and self._ends is not None:
            left = self._ends - self._now
            self._give(on.DrainRequested(left) if left > 0 else on.CloseRequested(), remote=False)

    # -- admission -------------------------------------------------------------------------------------------------

    def order(self, timeout: float | None, name: str, now: float) -> tuple[bool, ...]:
        """Return where a task is to be tried, in turn: True for the cluster, False for this machine.

        Args:
            timeout: The task's timeout in seconds, or None.
            name: The function's name.
            now: The present instant.
        """
        if not self.breaker.allows(now):
            return (False,)
        if self.prefers_remote:
            return (True, False)
        return (True, False) if self.admission.is_slow_here(timeout, name) else (False, True)

    def refusal(self, timeout: float | None, fair_key: Hashable, name: str | None, *, remote: bool) -> PoolError | None:
        """Return why one of the two would refuse a task now, or None."""
        if self.state.is_ending:
            return closed_error(self.state)
        side = self.remote if remote else self.local
        return side.admission.refusal(timeout, fair_key, name)

    def admit(self, timeout: float | None, fair_key: Hashable = None, name: str | None = None) -> PoolError | None:
        """Return why both would refuse a task, and count that; None if one of them takes it."""
        refusal = self.admission.refusal(timeout, fair_key, name)
        if isinstance(refusal, QueueFull):
            self.tally.refused += 1
        return refusal

    # -- looking --------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """Return the settings for this machine."""
        return self.local.limits

    @property
    def state(self) -> PoolState:
        """Return the state of the pool."""
        here, there = self.local.state, self.remote.state
        if there in _NOT_UP and not self.prefers_remote:
            return here  # the cluster may come later: what comes here first need not wait for it
        if here is not there and not _NOT_UP.isdisjoint((here, there)):
            return PoolState.STARTING
        if here is PoolState.RUNNING and there.is_ending:
            return PoolState.DRAINING
        return here

    @property
    def first(self) -> Scheduler:
        """Return the scheduler that gets tasks first."""
        return self.remote if self.prefers_remote and self.breaker.state is BreakerState.CLOSED else self.local

    @property
    def tally(self) -> Tally:
        """Return the counters that belong to none of the two: what was refused."""
        return self.local.tally

    @property
    def run_times(self) -> RunTimes:
        """Return how long functions take where tasks go first."""
        return self.first.run_times

    @property
    def crash_loop(self) -> WorkerStartError | None:
        """Return why no worker comes up on this machine, while that is so."""
        return self.local.crash_loop

    @property
    def running(self) -> int:
        """Return the number of tasks without an outcome that are with a worker, or with the cluster."""
        return self.local.running + self.remote.running

    @property
    def waiting(self) -> int:
        """Return the number of tasks without an outcome that wait."""
        return self.local.waiting + self.remote.waiting

    @property
    def next_since(self) -> float | None:
        """Return when the task that is next was submitted, where tasks go first; None if none waits."""
        return self.first.next_since

    def _owner(self, task: int) -> Scheduler:
        return self.local if self.remote.task(task) is None else self.remote

    def task_state(self, task: int) -> TaskState | None:
        """Return the state of a task that is not settled, or None."""
        return self._owner(task).task_state(task)

    def time_left(self, task: int, now: float) -> float | None:
        """Return the seconds until the deadline of a task; None if it has none, or an outcome already."""
        return self._owner(task).time_left(task, now)

    def attempts_of(self, task: int) -> int:
        """Return how often a task that is not settled was or is being tried."""
        return self._owner(task).attempts_of(task)


class RoutedAdmission:
    """Say which tasks would be refused by both; for whoever asks before there is a task.

    Args:
        scheduler: Knows both.
        target_wait: Seconds that a task may have to wait here.

    Attributes:
        reserved: Positions in the queue that are kept free for calls which wait for room.
    """

    def __init__(self, scheduler: RoutedScheduler, target_wait: float) -> None:
        self._scheduler = scheduler
        self._target_wait = target_wait

    def refusal(self, timeout: float | None, fair_key: Hashable = None, name: str | None = None) -> PoolError | None:
        """Return why a task would be refused now, or None; see ``Admission.refusal``."""
        scheduler = self._scheduler
        here = scheduler.refusal(timeout, fair_key, name, remote=False)
        if scheduler.breaker.state is not BreakerState.CLOSED or (here is None and not scheduler.prefers_remote):
            return here
        there = scheduler.refusal(timeout, fair_key, name, remote=True)
        return there if scheduler.prefers_remote or there is None else here

    def is_slow_here(self, timeout: float | None, name: str) -> bool:
        """Return whether a task would wait too long on this machine, and not as long for the cluster."""
        here, there = self._scheduler.local.admission, self._scheduler.remote
        if not here.waiting:
            return False
        wait = here.predicted_wait_s
        if wait <= max(self._target_wait, here.expected_run_s(name)):
            return False
        if there.admission.refusal(timeout, None, name) is not None:
            return False
        return there.fleet.free_worker() is not None or there.admission.predicted_wait_s < wait

    @property
    def reserved(self) -> int:
        """Return how many positions are kept free in the queue where tasks go first."""
        return self._home.reserved

    @reserved.setter
    def reserved(self, positions: int) -> None:
        self._home.reserved = positions

    @property
    def _home(self) -> Admission:
        side = self._scheduler.remote if self._scheduler.prefers_remote else self._scheduler.local
        return side.admission

    @property
    def waiting(self) -> int:
        """Return how many tasks wait where a task goes first."""
        return self._scheduler.first.admission.waiting

    @property
    def predicted_wait_s(self) -> float:
        """Return the seconds that a task would probably wait where it goes first."""
        return self._scheduler.first.admission.predicted_wait_s

    @property
    def capacity(self) -> int:
        """Return how many tasks run at the same time where a task goes first."""
        return self._scheduler.first.admission.capacity


def unavailable(breaker: CircuitBreaker) -> BackendUnavailable:
    """Make the error for a task that a cluster can't take, nor this machine."""
    return BackendUnavailable(
        f"the cluster takes no calls, and this machine has no room: {breaker.reason}",
        hint="look at its broker and its nodes; calls go through again by themselves when it is back",
    )
