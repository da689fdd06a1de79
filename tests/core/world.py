"""An engine and a backend that are honest and as awkward as real ones: the scheduler's other half, for its model test.

A worker here knows what really became of each task it was sent: a *ticket* not yet taken, *claimed* (its function
runs), or answered with the answer still on its way. Every command is checked against that.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core import invariants, policy
from lifepool._core.scheduler import Scheduler
from lifepool._core.states import ExitReason, PoolState, TaskState, WorkerState
from lifepool._core.timers import Timer
from lifepool.errors import PoolClosed, QueueFull, TaskTimeout, WorkerLost, WorkerStartError
from tests.core.script import NOON

if TYPE_CHECKING:
    from collections.abc import Callable

#: No history of these tests needs more steps than this to come to rest.
PATIENCE = 2000


@dataclass
class RealWorker:
    """What a worker process is really doing."""

    number: int
    ready: bool = False
    stopped: bool = False
    killed: bool = False
    sent_nonsense: bool = False
    answers: int = 0  # delivered
    quiet_since: float = 0.0  # it has had something to do from then on, and was not heard of
    tickets: list[int] = field(default_factory=list)
    claimed: list[int] = field(default_factory=list)
    outbox: deque[on.TaskReturned] = field(default_factory=deque)
    interrupted: dict[int, float] = field(default_factory=dict)  # task: when
    importing: int = 0  # the claimed task that it imports for
    import_began: float = 0.0

    def sent(self) -> list[int]:
        """Return the tasks that it was sent and whose answers the scheduler does not have, in order."""
        return [answer.task for answer in self.outbox] + self.claimed + self.tickets


class World:
    """Feed the scheduler, perform its commands, and check that it keeps its promises."""

    def __init__(self, limits: policy.Limits) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits, random=lambda: 0.5)
        self.now = NOON
        self.alarm: float | None = None
        self.workers: dict[int, RealWorker] = {}
        self.live: dict[int, on.TaskSubmitted] = {}
        self.preparing: list[int] = []
        self.deadlines: dict[int, float] = {}
        self.settled: dict[int, TaskState] = {}
        self.runs: Counter[int] = Counter()
        self.exits: dict[int, ExitReason] = {}
        self.refused = 0
        self.starts_reported = 0
        self.closes_reported = 0
        self.recycles_awaited = 0
        self.broken = False  # a step failed: nothing that follows means anything
        self.lost_with: list[int] = []  # what the worker whose exit is being reported was running
        self._event: on.Event = on.StartRequested()  # the one that is being decided about
        self._was_closed = False  # before it
        self._sent_before: dict[int, list[int]] = {}  # as well: a decision can't know what its own commands bring
        self._pending: deque[on.Event] = deque()
        self._perform: dict[type, Callable[..., None]] = {
            do.StartWorker: self._start_worker,
            do.StopWorker: self._stop_worker,
            do.KillWorker: self._kill_worker,
            do.SendTask: self._send_task,
            do.RetractTasks: self._retract_tasks,
            do.InterruptTask: self._interrupt_task,
            do.Settle: self._settle,
            do.SetTimer: self._set_timer,
            do.ReportStarted: self._report_started,
            do.ReportClosed: self._report_closed,
            do.ReportRecycled: self._report_recycled,
            do.ReportWorkerExit: self._report_worker_exit,
            do.WarnOfKeptViews: self._warn_of_kept_views,
        }

    # -- the engine -----------------------------------------------------------------------------------------------

    def feed(self, event: on.Event) -> None:
        """Do what the engine does with an event; answers that come at once wait their turn."""
        self.broken = True
        self._pending.append(event)
        while self._pending:
            self._event = self._pending.popleft()
            self._was_closed = self.scheduler.state is PoolState.CLOSED
            self._sent_before = {number: worker.sent() for number, worker in self.workers.items()}
            for command in self.scheduler.handle(self._event, self.now):
                self._perform[type(command)](command)
            invariants.check(self.scheduler)
        self._compare()
        self.broken = False

    def submit(self, event: on.TaskSubmitted) -> None:
        """Submit a task, if it is admitted."""
        refusal = self.scheduler.admit(event.timeout, event.fair_key)
        if refusal is not None:
            assert refusal.hint or isinstance(refusal, WorkerStartError)
            assert getattr(refusal, "retry_after", 1.0) > 0
            self.refused += isinstance(refusal, QueueFull)
            return
        self.live[event.task] = event
        if event.timeout is not None:
            self.deadlines[event.task] = self.now + event.timeout
        if event.preparing:
            self.preparing.append(event.task)
        self.feed(event)

    def prepared(self, task: int, *, succeeded: bool = True) -> None:
        """Report that the payload is ready, whether anybody still wants it or not."""
        self.preparing.remove(task)
        self.feed(on.TaskPrepared(task, succeeded))

    def fire(self) -> None:
        """Let the alarm ring: at its instant, or now if that has passed."""
        assert self.alarm is not None
        self.now = max(self.now, self.alarm)
        for _ in range(PATIENCE):  # of many timers some are dealt with at once
            if self.alarm is None or self.alarm > self.now:
                break
            self.alarm = None
            self.feed(on.TimerFired())
        assert not [task for task in self.live if self.deadlines.get(task, self.now + 1) <= self.now]

    def _set_timer(self, command: do.SetTimer) -> None:
        self.alarm = command.when

    def _settle(self, command: do.Settle) -> None:
        task, outcome, error, event = command.task, command.outcome, command.error, self._event
        assert task in self.live, "settled twice, or never submitted"
        del self.live[task]
        self.settled[task] = outcome
        if outcome in (TaskState.COMPLETED, TaskState.FAILED):
            assert isinstance(event, on.TaskReturned | on.TaskPrepared)
            assert (event.task, event.succeeded, error) == (task, outcome is TaskState.COMPLETED, None)
        elif outcome is TaskState.TIMED_OUT:
            assert isinstance(error, TaskTimeout)
            assert self.deadlines[task] <= self.now
        elif outcome is TaskState.CANCELLED:
            by_its_caller = isinstance(event, on.TaskCancelled) and event.task == task and error is None
            is_closed = self.scheduler.state is PoolState.CLOSED and isinstance(error, PoolClosed)
            was_too_late = (
                isinstance(error, QueueFull)
                and isinstance(event, on.TimerFired)
                and not self._was_closed  # the same event may have closed it, after a block of the loop
            )
            self.refused += was_too_late
            assert by_its_caller or is_closed or was_too_late
        elif isinstance(error, WorkerLost):
            assert task in self.lost_with, "only what a dead worker had started is lost"
            assert error.story
        else:
            assert isinstance(error, WorkerStartError)
            assert self.scheduler.crash_loop is not None

    def _report_started(self, _: do.ReportStarted) -> None:
        self.starts_reported += 1
        assert self.starts_reported == 1

    def _report_recycled(self, _: do.ReportRecycled) -> None:
        self.recycles_awaited -= 1
        assert self.recycles_awaited == 0

    def _report_worker_exit(self, command: do.ReportWorkerExit) -> None:
        assert command.worker == command.end.worker
        assert command.worker not in self.exits, "reported twice"
        assert command.worker not in self.workers
        self.exits[command.worker] = command.reason

    def _warn_of_kept_views(self, command: do.WarnOfKeptViews) -> None:
        assert isinstance(self._event, on.TaskReturned)
        assert command.kept == self._event.kept
        assert command.worker == self._event.worker

    def _report_closed(self, _: do.ReportClosed) -> None:
        self.closes_reported += 1
        assert self.closes_reported == 1
        assert not self.live
        assert not self.workers

    # -- the backend ----------------------------------------------------------------------------------------------

    def _start_worker(self, command: do.StartWorker) -> None:
        assert command.worker not in self.workers
        assert not self._was_closed
        self.workers[command.worker] = RealWorker(command.worker)

    def _stop_worker(self, command: do.StopWorker) -> None:
        worker = self.workers[command.worker]
        assert worker.ready
        assert [worker.sent(), worker.stopped, worker.killed] == [[], False, False]
        worker.stopped = True

    def _kill_worker(self, command: do.KillWorker) -> None:
        worker = self.workers[command.worker]
        ending = self.scheduler.state is PoolState.CLOSED
        had_its_chance = worker.stopped or worker.killed or worker.sent_nonsense or not worker.ready
        had_its_chance = had_its_chance or self._sat_still(worker) or self._imported_for_too_long(worker)
        assert ending or had_its_chance or self._has_a_task_to_break_off(worker)
        worker.killed = True

    def _has_a_task_to_break_off(self, worker: RealWorker) -> bool:
        unwanted = [task for task in self._sent_before[worker.number] if task not in self.live]
        if worker.importing:
            return False
        if not self.limits.can_interrupt:
            return self.limits.can_kill and bool(unwanted)
        grace = policy.INTERRUPT_GRACE_S
        return any(self.now >= worker.interrupted.get(task, self.now) + grace for task in unwanted)

    def _imported_for_too_long(self, worker: RealWorker) -> bool:
        return bool(worker.importing) and self.now >= worker.import_began + self.limits.start_timeout

    def _sat_still(self, worker: RealWorker) -> bool:
        """Return whether all tasks that it was sent long ago have just been taken back unstarted."""
        took_nothing = isinstance(self._event, on.TasksRetracted) and self._event.tasks and not worker.sent()
        return bool(took_nothing) and self.now - worker.quiet_since >= policy.CLAIM_S

    def _send_task(self, command: do.SendTask) -> None:
        worker, task = self.workers[command.worker], command.task
        assert [worker.ready, worker.stopped, worker.killed] == [True, False, False]
        assert task in self.live
        assert task not in self.preparing
        assert self.deadlines.get(task, self.now + 1) > self.now
        assert all(task not in other.sent() for other in self.workers.values())
        assert len(worker.sent()) < self._most()
        if self.limits.slots == 1 and self.limits.max_tasks_per_worker is not None:
            assert worker.answers + len(worker.sent()) < self.limits.max_tasks_per_worker
        if not worker.sent():
            worker.quiet_since = self.now
        worker.tickets.append(task)

    def _most(self) -> int:
        if self.limits.slots > 1 or not self.limits.can_retract:
            return self.limits.slots
        return policy.PIPELINE_MOST

    def _retract_tasks(self, command: do.RetractTasks) -> None:
        assert self.limits.can_retract
        worker = self.workers[command.worker]
        back, worker.tickets = tuple(worker.tickets), []
        self._pending.append(on.TasksRetracted(command.worker, back))

    def _interrupt_task(self, command: do.InterruptTask) -> None:
        assert self.limits.can_interrupt
        assert command.task not in self.live, "somebody still wants it"
        worker = self.workers[command.worker]
        assert not worker.importing, "it has to finish that first"
        worker.interrupted[command.task] = self.now

    # -- what workers do ------------------------------------------------------------------------------------------

    def get_ready(self, worker: RealWorker) -> None:
        worker.ready = True
        self.feed(on.WorkerReady(worker.number))

    def claim(self, worker: RealWorker) -> None:
        """Let the worker take its next ticket: from here on the function runs."""
        task = worker.tickets.pop(0)
        self.runs[task] += 1
        assert all(task not in other.claimed for other in self.workers.values())
        if task in self.live:
            assert self.runs[task] <= 1 + self.live[task].retries
        worker.claimed.append(task)

    def import_begins(self, worker: RealWorker) -> None:
        """Let the worker begin to import what the claimed task needs."""
        worker.importing, worker.import_began = worker.claimed[0], self.now
        worker.interrupted.clear()
        self.feed(on.WorkerLoading(worker.number, worker.importing))

    def import_ends(self, worker: RealWorker) -> None:
        """Let the import end: the task runs now."""
        task, worker.importing = worker.importing, 0
        worker.quiet_since = self.now
        self.feed(on.WorkerLoaded(worker.number, task))

    def finish(self, worker: RealWorker, answer: on.TaskReturned) -> None:
        """Let the function return, or its import fail; the answer is on its way then."""
        worker.claimed.remove(answer.task)
        worker.outbox.append(answer)

    def deliver(self, worker: RealWorker) -> None:
        worker.answers += 1
        worker.quiet_since = self.now
        if worker.outbox[0].task == worker.importing:
            worker.importing = 0
        self.feed(worker.outbox.popleft())

    def talk_nonsense(self, worker: RealWorker) -> None:
        worker.sent_nonsense = True
        self.feed(on.TaskReturned(worker.number, 10**9, True, 0.0))
        assert worker.killed

    def die(self, worker: RealWorker, *, signal: int | None = None, oom: bool = False) -> None:
        """Let the process end; what it answered before arrives before the event of its end."""
        while worker.outbox:
            self.deliver(worker)
        del self.workers[worker.number]
        self.lost_with = worker.claimed
        start_error = None if worker.ready else "ImportError: no module named 'model'"
        unstarted = tuple(worker.tickets)
        self.feed(on.WorkerExited(worker.number, unstarted, signal=signal, oom_suspected=oom, start_error=start_error))
        self.lost_with = []

    # -- what must be true ----------------------------------------------------------------------------------------

    def _compare(self) -> None:
        scheduler, timers = self.scheduler, self.scheduler._decision.timers
        assert scheduler.fleet.workers.keys() == self.workers.keys()
        for worker in scheduler.fleet:
            real = self.workers[worker.id].sent()
            assert worker.tasks == real if self.limits.slots == 1 else sorted(worker.tasks) == sorted(real)
        assert scheduler._table.tasks.keys() == self.live.keys()
        assert scheduler.running == sum(task in self.live for w in self.workers.values() for task in w.sent())
        assert scheduler.running + scheduler.waiting == len(self.live)
        assert scheduler.tally.refused == self.refused
        assert scheduler.tally.restarts == Counter(self.exits.values())
        if not any(self.deadlines.get(task, self.now + 1) <= self.now for task in self.live):  # else they end first
            assert not (len(scheduler._table.queue) and scheduler.fleet.free_worker()), "a task waits, a worker is idle"
        pipelining = [w for w in scheduler.fleet if len(w.tasks) > 1 and self.limits.slots == 1]
        assert not pipelining or (Timer.REBALANCE, 0) in timers, "nobody will look after pipelined tasks"
        earliest = timers.earliest()
        assert earliest is None or (self.alarm is not None and self.alarm <= earliest), "the alarm is late"

    def come_to_rest(self, done: Callable[[], bool]) -> None:
        """Let everybody behave and time pass until ``done``."""
        for _ in range(PATIENCE):
            if self._behave():
                continue
            if done():
                return
            self.fire()  # without an alarm: nothing would ever happen again
        raise AssertionError("it never comes to rest")

    def _behave(self) -> bool:
        if self.preparing:
            self.prepared(self.preparing[0])
            return True
        for worker in list(self.workers.values()):
            if worker.outbox:
                self.deliver(worker)
            elif worker.killed or (worker.stopped and not worker.sent()):
                self.die(worker)
            elif not worker.ready:
                self.get_ready(worker)
            elif worker.importing:
                self.import_ends(worker)
            elif worker.claimed:
                self.finish(worker, on.TaskReturned(worker.number, worker.claimed[0], True, 1e-4))
            elif worker.tickets:
                self.claim(worker)
            else:
                continue
            return True
        return False

    def in_state(self, *states: WorkerState) -> list[RealWorker]:
        """Return the workers that the scheduler believes to be in one of these states."""
        return [self.workers[worker.id] for worker in self.scheduler.fleet if worker.state in states]
