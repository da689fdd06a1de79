"""The supervisor: starts workers, sees that they come up, breaks off what they do, lets them go, replaces them.

It knows nothing of tasks but their numbers. The scheduler owns it and tells it what happened.

Theory of operation
    A worker is STARTING until it says that it is ready, or until ``start_timeout``. A worker that ends before, or by
    itself right after without having done anything, is a *failed start*; the next one waits longer each time, and after
    a few with no worker left the pool is in a *crash loop*: then one worker at a time is tried, until one comes up.

    A worker that somebody kills while it is ready has failed at nothing, and is replaced at once. Only if its
    replacements are killed as well, before they did anything, is there a pause before each further one.

    A worker from which a task can still be taken back seconds after it was sent is stopped (SIGSTOP, a debugger, a
    frozen cgroup): it is killed, and the task, which had not started, runs elsewhere.

    A worker that imports a module for a task is still starting, though it is BUSY: whatever becomes of the task, it is
    neither interrupted nor killed before it is done, or ``start_timeout`` has passed. Broken off, the import would have
    to be done again for the next task, which would not live to see its end either.

    Whoever must end softly (an interrupted task, a worker let go) has a KILL timer; a worker has one of these at most.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import policy
from lifepool._core.fleet import Fleet, Worker
from lifepool._core.states import WorkerState
from lifepool._core.timers import Timer
from lifepool.errors import WorkerLost, WorkerStartError

if TYPE_CHECKING:
    from lifepool._core.decision import Desk
    from lifepool._core.events import WorkerExited

#: The timer that looks for stopped workers; there is one for all of them.
CLAIM = (Timer.CLAIM, 0)
#: Counted for a worker that ended before it was ready, or right after without having done anything.
FAILED_START = "failed to start"
_WORKER_TIMERS = (Timer.START, Timer.KILL, Timer.IDLE)
#: Signals that others send to end a process (SIGHUP, SIGINT, SIGKILL, SIGTERM); it brings the rest on itself.
_FROM_OUTSIDE = frozenset({1, 2, 9, 15})


class Supervisor:
    """Keeps the fleet at its size.

    Args:
        desk: Shared with the scheduler.

    Attributes:
        fleet: The workers there are.
        crash_loop: Why no worker comes up, while that is so; with the hint of the last failure.
        last_start_s: Seconds that the last worker which came up took for that.
    """

    def __init__(self, desk: Desk) -> None:
        self.fleet = Fleet(desk.limits)
        self.crash_loop: WorkerStartError | None = None
        self.last_start_s = 0.0
        self._desk = desk
        self._failed_starts = 0  # in a row
        self._early_ends = 0  # in a row: generations of workers that ended right after they were ready
        self._last_early_end = -inf
        self._last_of_generation = 0  # workers up to this number are the same generation as the last that ended early
        self._ready_ends_pause = True  # whether a worker that comes up shows that starts need no pause any more

    # -- up -------------------------------------------------------------------------------------------------------

    def start_worker(self) -> None:
        """Have one more worker started."""
        desk = self._desk
        worker = self.fleet.add(desk.now)
        desk.timers.set((Timer.START, worker.id), desk.now + desk.limits.start_timeout)
        desk.out.append(do.StartWorker(worker.id))

    def ensure_minimum(self) -> None:
        """Start what is missing up to ``min_workers``, unless starts are being backed off from."""
        if self.may_start():
            for _ in range(self._desk.limits.min_workers - self.fleet.counted()):
                self.start_worker()

    def scale_up(self, waiting: int) -> None:
        """So many tasks wait and nobody is free: start workers for those that none is on its way for."""
        limits = self._desk.limits
        counted = self.fleet.counted()
        if counted >= limits.max_workers or not self.may_start():
            return
        wanted = -(-waiting // limits.slots) - self.fleet.count(WorkerState.STARTING)
        for _ in range(min(wanted, limits.max_workers - counted)):
            self.start_worker()

    def became_ready(self, worker: Worker) -> None:
        """The worker's start-up is done: whatever kept others from starting is over."""
        self._desk.timers.cancel((Timer.START, worker.id))
        if self._ready_ends_pause:
            self._desk.timers.cancel((Timer.RESTART, 0))
        self._failed_starts = 0
        self.crash_loop = None
        worker.ready_at = self._desk.now
        self.last_start_s = self._desk.now - worker.started_at
        self.fleet.set_ready(worker)

    def try_again(self) -> None:
        """The backoff is over."""
        if self.crash_loop is None:
            self.ensure_minimum()
        elif not self.fleet.count(WorkerState.STARTING):
            self.start_worker()  # one is enough to see whether the cause is gone

    def overdue(self, number: int) -> None:
        """Kill a worker whose start took too long, or whose import of what a task needs did."""
        worker, limit = self.fleet.workers[number], f"within start_timeout ({self._desk.limits.start_timeout:g} s)"
        what = "it was not ready" if worker.loading is None else "it had not imported what the task needs"
        self.kill(worker, f"{what} {limit}")

    def may_start(self) -> bool:
        """Whether starts are not being backed off from."""
        return self.crash_loop is None and (Timer.RESTART, 0) not in self._desk.timers

    # -- importing ------------------------------------------------------------------------------------------------

    def begins_import(self, worker: Worker, task: int) -> None:
        """Note that the worker imports a module for the first of its tasks."""
        desk = self._desk
        worker.loading = task
        if worker.interrupted is not None:  # by an order that was given before this was known
            worker.unwanted, worker.interrupted = worker.interrupted, None
            desk.timers.cancel((Timer.KILL, worker.id))
        desk.timers.set((Timer.START, worker.id), desk.now + desk.limits.start_timeout)

    def ends_import(self, worker: Worker) -> None:
        """Note that the import is done; the task runs from now on, unless nobody wants it any more."""
        unwanted = worker.unwanted
        self.forget_import(worker)
        worker.head_since = self._desk.now
        if unwanted is not None:
            self.interrupt(worker, unwanted)

    def forget_import(self, worker: Worker) -> None:
        """Forget the import: it is done, or has failed and the task with it."""
        worker.loading = worker.unwanted = None
        self._desk.timers.cancel((Timer.START, worker.id))

    # -- down -----------------------------------------------------------------------------------------------------

    def interrupt(self, worker: Worker, task: int) -> None:
        """Break off what the worker runs: softly first, where there is a way to."""
        desk = self._desk
        if worker.state is WorkerState.STOPPING or worker.interrupted is not None:
            return
        if worker.loading is not None:
            worker.unwanted = task
        elif desk.limits.can_interrupt:
            worker.interrupted = task
            desk.out.append(do.InterruptTask(worker.id, task))
            if desk.limits.can_kill:
                desk.timers.set((Timer.KILL, worker.id), desk.now + policy.INTERRUPT_GRACE_S)
        elif desk.limits.can_kill:
            self.kill(worker, "interrupted")

    def answered(self, worker: Worker, task: int) -> None:
        """The worker is done with the task; if that was to be broken off, it has been."""
        if worker.interrupted == task:
            worker.interrupted = None
            self._desk.timers.cancel((Timer.KILL, worker.id))

    def prepare_successor(self, worker: Worker) -> None:
        """The worker nears its last task: have another one started, and let this one go when that is ready."""
        if worker.counted:
            self.fleet.uncount(worker)
            worker.relieved = "max_tasks_per_worker"
            self.ensure_minimum()

    def succeed(self, worker: Worker, why: str) -> None:
        """Start a successor for the worker, if none is on its way; when one is ready, this worker goes."""
        worker.relieved = why
        if worker.counted or not self.fleet.count(WorkerState.STARTING):
            self.fleet.uncount(worker)
            self.start_worker()

    def retire_replaced(self) -> None:
        """A worker came up: if it is a successor, its predecessor may go."""
        for worker in self.fleet:
            if not worker.counted and worker.state in (WorkerState.READY, WorkerState.BUSY):
                self.retire(worker, worker.relieved)
                return

    def retire(self, worker: Worker, why: str) -> None:
        """The worker has done its share: it finishes what it runs, and makes room for a successor."""
        if worker.tasks:
            self.fleet.set_leaving(worker, WorkerState.DRAINING, why)
            if self._desk.limits.can_retract:
                self._desk.out.append(do.RetractTasks(worker.id))
        else:
            self.stop(worker, why)

    def stop(self, worker: Worker, why: str) -> None:
        """Ask a worker without tasks to exit."""
        desk = self._desk
        self.fleet.set_leaving(worker, WorkerState.STOPPING, why)
        self._cancel_timers(worker)
        desk.timers.set((Timer.KILL, worker.id), desk.now + policy.STOP_GRACE_S)
        desk.out.append(do.StopWorker(worker.id))

    def kill(self, worker: Worker, why: str) -> None:
        """End a worker at once."""
        if worker.state is not WorkerState.STOPPING:
            self.fleet.set_leaving(worker, WorkerState.STOPPING, why)
        self._cancel_timers(worker)
        self._desk.out.append(do.KillWorker(worker.id))

    def grace_over(self, number: int) -> None:
        """What was asked for softly did not happen."""
        worker = self.fleet.workers[number]
        soft = "a task did not end when interrupted"
        self.kill(worker, soft if worker.interrupted is not None else "it did not stop when asked to")

    def look_for_stopped(self) -> None:
        """Ask back what busy workers should have started long ago; one that gives it back has not looked at it."""
        desk = self._desk
        busy = [worker for worker in self.fleet if worker.state is WorkerState.BUSY]
        for worker in busy:
            if desk.now - worker.head_since >= policy.CLAIM_S:
                worker.suspect = worker.tasks[0]
                desk.out.append(do.RetractTasks(worker.id))
        if busy:
            self.watch_claims()

    def watch_claims(self) -> None:
        """A worker has been given something to do: see later whether it took it."""
        desk = self._desk
        limits = desk.limits
        if limits.slots == 1 and limits.can_retract and limits.can_kill and CLAIM not in desk.timers:
            desk.timers.set(CLAIM, desk.now + policy.CLAIM_S)

    def watch_idle(self) -> None:
        """Workers above the minimum that have nothing to do are let go after ``idle_timeout``."""
        desk = self._desk
        if desk.limits.min_workers >= desk.limits.max_workers:
            return
        for worker in self.fleet.idle:
            if (Timer.IDLE, worker.id) not in desk.timers:
                desk.timers.set((Timer.IDLE, worker.id), desk.now + desk.limits.idle_timeout)

    def idle_long_enough(self, number: int) -> None:
        """The worker had nothing to do for ``idle_timeout``."""
        worker = self.fleet.workers[number]
        if self.fleet.counted() - worker.counted >= self._desk.limits.min_workers:
            self.stop(worker, "idle_timeout")

    # -- gone -----------------------------------------------------------------------------------------------------

    def exited(self, worker: Worker, event: WorkerExited, *, ending: bool) -> WorkerStartError | None:
        """Forget a worker that is gone, and count why.

        Args:
            worker: Whose process ended.
            event: What is known of its end.
            ending: Whether the whole pool is ending, so that nothing is to be learned from it.

        Returns:
            An error if this was a failed start.
        """
        desk = self._desk
        reason = why_gone(worker, event, now=desk.now, ending=ending)
        ended_early = worker.state is not WorkerState.STOPPING and _ended_early(worker, event, desk.now)
        self.fleet.remove(worker.id)
        self._cancel_timers(worker)
        if worker.ready_at is not None:
            desk.tally.worker_s += desk.now - worker.ready_at
        desk.tally.restarts[reason] += 1
        if ended_early:
            self._count_early_end(worker)
        if reason is FAILED_START:
            return self._failed_start(_cause(worker, event), event.start_hint, after_ready=ended_early)
        if ended_early and self._early_ends > 1:
            self._pause_starts(self._early_ends - 1, ready_ends_it=False)
        return None

    def _cancel_timers(self, worker: Worker) -> None:
        for timer in _WORKER_TIMERS:
            self._desk.timers.cancel((timer, worker.id))

    def _count_early_end(self, worker: Worker) -> None:
        """Count it, unless it was there when another ended early: the cause may be the same."""
        if worker.id <= self._last_of_generation:
            return
        was_replacement = worker.started_at - self._last_early_end <= policy.RESTART_LAST_S
        self._early_ends = self._early_ends + 1 if was_replacement else 1
        self._last_early_end = self._desk.now
        self._last_of_generation = self.fleet.last_number

    def _pause_starts(self, failures: int, *, ready_ends_it: bool) -> None:
        self._ready_ends_pause = ready_ends_it
        self._desk.timers.set((Timer.RESTART, 0), self._desk.now + policy.restart_delay(failures))

    def _failed_start(self, cause: str, hint: str | None, *, after_ready: bool) -> WorkerStartError:
        error = WorkerStartError(cause, hint=hint)
        if after_ready:
            self._failed_starts = max(self._failed_starts, self._early_ends)
        else:
            self._failed_starts += 1
        self._pause_starts(self._failed_starts, ready_ends_it=not after_ready)
        alive = self.fleet.count(WorkerState.READY, WorkerState.BUSY, WorkerState.DRAINING)
        if not alive and self._failed_starts >= policy.CRASH_LOOP_STARTS:
            self.crash_loop = error
        return error


def why_gone(worker: Worker, event: WorkerExited, *, now: float, ending: bool) -> str:
    """Why a worker is gone, for statistics; to be asked before it is forgotten."""
    was_ready = worker.ready_at is not None
    if worker.state is WorkerState.STOPPING and (was_ready or ending):
        return worker.leaving
    if not was_ready or (_ended_early(worker, event, now) and not _was_killed(event)):
        return FAILED_START
    return "out of memory" if event.oom_suspected else "died"


def _ended_early(worker: Worker, event: WorkerExited, now: float) -> bool:
    """Tell whether the worker was ready and ended soon after, without having done anything."""
    if worker.ready_at is None or now - worker.ready_at >= policy.PROBATION_S:
        return False
    return not (worker.completed or set(worker.tasks) - set(event.unstarted))


def _was_killed(event: WorkerExited) -> bool:
    """Tell whether somebody else ended the process: the user, the kernel for memory, the end of the template."""
    is_unknown = event.signal is None and event.exitcode is None
    return not event.reason and (is_unknown or event.signal in _FROM_OUTSIDE)


def _cause(worker: Worker, event: WorkerExited) -> str:
    if event.start_error or worker.leaving or event.reason:
        return event.start_error or worker.leaving or event.reason
    lost = WorkerLost(exitcode=event.exitcode, signal=event.signal, oom_suspected=event.oom_suspected)
    return str(lost.args[0])
