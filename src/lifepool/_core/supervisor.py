"""The supervisor: starts workers, sees that they come up, breaks off what they do, lets them go, replaces them.

It knows nothing of tasks but their numbers, and why a worker went only as an ``ExitReason``.

Theory of operation
    A worker is STARTING until it says that it is ready, or until ``start_timeout``. A worker that ends before, or by
    itself right after without having done anything, is a *failed start*; the next one waits longer each time, and after
    a few with no worker left the pool is in a *crash loop*: then one worker at a time is tried, until one comes up.

    Workers that are to start at the same time starve each other: of 64 on two CPUs each takes 32 times as long, and
    all may pass ``start_timeout``. So only as many start as keep the CPUs busy, and as each is ready the next one is
    started. How many that is they say themselves: one that loads a file from the network uses no CPU.

    A worker that somebody kills while it is ready has failed at nothing, and is replaced at once. Only if its
    replacements are killed as well, before they did anything, is there a pause before each further one.

    A worker from which a task can still be taken back seconds after it was sent is stopped (SIGSTOP, a debugger, a
    frozen cgroup): it is killed, and the task, which had not started, runs elsewhere.

    A worker that imports a module for a task is still starting, though it is BUSY: whatever becomes of the task, it is
    neither interrupted nor killed before it is done, or ``start_timeout`` has passed. Broken off, the import would have
    to be done again for the next task, which would not live to see its end either.

    A worker that is asked to end something softly (a task, or itself) has a KILL timer; never more than one.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from lifepool._core import commands as do
from lifepool._core import policy
from lifepool._core.exits import ended_early, start_failure
from lifepool._core.fleet import Fleet, Worker
from lifepool._core.states import ExitReason, WorkerState
from lifepool._core.timers import Timer
from lifepool.errors import WorkerStartError

if TYPE_CHECKING:
    from lifepool._core.decision import DecisionContext
    from lifepool._core.events import WorkerExited

#: The timer that looks for stopped workers; there is one for all of them.
CLAIM: Final = (Timer.CLAIM, 0)
_WORKER_TIMERS = (Timer.START, Timer.KILL, Timer.IDLE)


class Supervisor:
    """Keep the fleet at its size.

    Args:
        decision: Shared by all parts of the scheduler.

    Attributes:
        fleet: The workers there are.
        crash_loop: Why no worker comes up, while that is so; with the hint of the last failure.
        withheld: Starts up to ``min_workers`` that wait for others to be ready.
        last_start_s: Seconds that the last worker which came up took for that.
    """

    def __init__(self, decision: DecisionContext) -> None:
        self.fleet: Fleet = Fleet(decision.limits)
        self.crash_loop: WorkerStartError | None = None
        self.withheld: int = 0
        self.last_start_s: float = 0.0
        self._cpu_share: float | None = None  # the largest of a start: beside others a worker gets less
        self._decision = decision
        self._failed_starts = 0  # in a row
        self._early_ends = 0  # in a row: generations of workers that ended right after they were ready
        self._last_early_end = -inf
        self._last_of_generation = 0  # workers up to this number are the same generation as the last that ended early
        self._ready_ends_pause = True  # whether a worker that comes up shows that starts need no pause any more

    # -- up -------------------------------------------------------------------------------------------------------

    def start_worker(self) -> None:
        """Start one more worker."""
        decision = self._decision
        worker = self.fleet.add(decision.now)
        decision.timers.set((Timer.START, worker.id), decision.now + decision.limits.start_timeout)
        decision.out.append(do.StartWorker(worker.id))

    def ensure_minimum(self) -> None:
        """Start the workers that are missing up to ``min_workers``, unless starts are being backed off from."""
        if self.may_start():
            missing = max(0, self._decision.limits.min_workers - self.fleet.counted())
            now = min(missing, self._most_starts())
            self.withheld = missing - now
            for _ in range(now):
                self.start_worker()

    def scale_up(self, waiting: int) -> None:
        """Start workers for the tasks that wait, as far as none is being started for them already.

        Args:
            waiting: How many tasks wait.
        """
        limits = self._decision.limits
        counted = self.fleet.counted()
        if counted >= limits.max_workers or not self.may_start():
            return
        if self.fleet.free_worker() is not None:
            return  # they wait for nothing but their end: their timeouts have passed
        wanted = -(-waiting // limits.slots) - self.fleet.count(WorkerState.STARTING)
        for _ in range(min(wanted, limits.max_workers - counted, self._most_starts())):
            self.start_worker()

    def _most_starts(self) -> int:
        """Return how many more workers may start now."""
        limits = self._decision.limits
        if limits.cpus is None:
            return limits.max_workers
        at_once = policy.starts_at_once(limits.cpus, self._cpu_share)
        return max(0, at_once - self.fleet.count(WorkerState.STARTING))

    def became_ready(self, worker: Worker, cpu_share: float | None) -> None:
        """Make the worker available, and end what kept others from starting."""
        if cpu_share is not None:
            self._cpu_share = max(self._cpu_share or 0.0, cpu_share)
        self._decision.timers.cancel((Timer.START, worker.id))
        if self._ready_ends_pause:
            self._decision.timers.cancel((Timer.RESTART, 0))
        self._failed_starts = 0
        self.crash_loop = None
        worker.ready_at = self._decision.now
        self.last_start_s = self._decision.now - worker.started_at
        self.fleet.set_ready(worker)

    def try_again(self) -> None:
        """Start workers again after the backoff."""
        if self.crash_loop is None:
            self.ensure_minimum()
        elif not self.fleet.count(WorkerState.STARTING):
            self.start_worker()  # one is enough to see whether the cause is gone

    def overdue(self, number: int) -> None:
        """Kill a worker whose start took too long, or whose import of what a task needs did."""
        worker = self.fleet.workers[number]
        is_starting = worker.loading is None
        self.kill(worker, ExitReason.NOT_READY_IN_TIME if is_starting else ExitReason.NOT_IMPORTED_IN_TIME)

    def may_start(self) -> bool:
        """Return whether starts are not being backed off from."""
        return self.crash_loop is None and (Timer.RESTART, 0) not in self._decision.timers

    # -- importing ------------------------------------------------------------------------------------------------

    def begins_import(self, worker: Worker, task: int) -> None:
        """Note that the worker imports a module for the first of its tasks."""
        decision = self._decision
        worker.loading = task
        if worker.interrupted is not None:  # by an order that was given before this was known
            worker.unwanted, worker.interrupted = worker.interrupted, None
            decision.timers.cancel((Timer.KILL, worker.id))
        decision.timers.set((Timer.START, worker.id), decision.now + decision.limits.start_timeout)

    def ends_import(self, worker: Worker) -> None:
        """Note that the import is done: the task runs from now on. Interrupt it if nobody wants it any more."""
        unwanted = worker.unwanted
        self.forget_import(worker)
        worker.head_since = self._decision.now
        if unwanted is not None:
            self.interrupt(worker, unwanted)

    def forget_import(self, worker: Worker) -> None:
        """Forget an import that is done, or that has failed together with its task."""
        worker.loading = worker.unwanted = None
        self._decision.timers.cancel((Timer.START, worker.id))

    # -- down -----------------------------------------------------------------------------------------------------

    def interrupt(self, worker: Worker, task: int) -> None:
        """Break off the task that the worker runs: softly first, where there is a way to."""
        decision = self._decision
        if worker.state is WorkerState.STOPPING or worker.interrupted is not None:
            return
        if worker.loading is not None:
            worker.unwanted = task
        elif decision.limits.can_interrupt and decision.limits.slots > 1 and not decision.limits.can_kill:
            decision.out.append(do.InterruptTask(worker.id, task))  # it has many, and sees to the end of each by itself
        elif decision.limits.can_interrupt:
            worker.interrupted = task
            decision.out.append(do.InterruptTask(worker.id, task))
            if decision.limits.can_kill:
                decision.timers.set((Timer.KILL, worker.id), decision.now + policy.INTERRUPT_GRACE_S)
        elif decision.limits.can_kill:
            self.kill(worker, ExitReason.INTERRUPTED)

    def answered(self, worker: Worker, task: int) -> None:
        """Note that the worker is done with the task: there is nothing to break off any more."""
        if worker.interrupted == task:
            worker.interrupted = None
            self._decision.timers.cancel((Timer.KILL, worker.id))

    def prepare_successor(self, worker: Worker) -> None:
        """Start a successor for a worker that nears its last task; this one goes when that is ready."""
        if worker.counted:
            self.fleet.uncount(worker)
            worker.replaced_for = ExitReason.MAX_TASKS
            self.ensure_minimum()

    def replace(self, worker: Worker, reason: ExitReason) -> None:
        """Start a successor for the worker, if none is being started; when one is ready, this worker goes."""
        worker.replaced_for = reason
        if worker.counted or not self.fleet.count(WorkerState.STARTING):
            self.fleet.uncount(worker)
            self.start_worker()

    def retire_replaced(self) -> None:
        """Let one worker go that has a successor; called when a worker is ready."""
        for worker in self.fleet:
            if worker.replaced_for is not None and worker.state in (WorkerState.READY, WorkerState.BUSY):
                self.retire(worker, worker.replaced_for)
                return

    def retire(self, worker: Worker, reason: ExitReason) -> None:
        """Let a worker go that has done its share, as soon as it has finished what it runs."""
        if worker.tasks:
            self.fleet.set_leaving(worker, WorkerState.DRAINING, reason)
            if self._decision.limits.can_retract:
                self._decision.out.append(do.RetractTasks(worker.id))
        else:
            self.stop(worker, reason)

    def stop(self, worker: Worker, reason: ExitReason) -> None:
        """Ask a worker without tasks to exit."""
        decision = self._decision
        self.fleet.set_leaving(worker, WorkerState.STOPPING, reason)
        self._cancel_timers(worker)
        decision.timers.set((Timer.KILL, worker.id), decision.now + policy.STOP_GRACE_S)
        decision.out.append(do.StopWorker(worker.id))

    def kill(self, worker: Worker, reason: ExitReason) -> None:
        """End a worker at once."""
        if worker.state is not WorkerState.STOPPING:
            self.fleet.set_leaving(worker, WorkerState.STOPPING, reason)
        self._cancel_timers(worker)
        self._decision.out.append(do.KillWorker(worker.id))

    def grace_over(self, number: int) -> None:
        """Kill a worker that did not do in time what it was asked for softly."""
        worker = self.fleet.workers[number]
        interrupted = worker.interrupted is not None
        self.kill(worker, ExitReason.INTERRUPT_IGNORED if interrupted else ExitReason.STOP_IGNORED)

    def look_for_stopped(self) -> None:
        """Take back the tasks that busy workers should have started long ago.

        If that succeeds for the oldest task, the worker has not even taken it: it is stopped, and is killed then.
        """
        decision = self._decision
        busy = [worker for worker in self.fleet if worker.state is WorkerState.BUSY]
        for worker in busy:
            if decision.now - worker.head_since >= policy.CLAIM_S:
                worker.suspect = worker.tasks[0]
                decision.out.append(do.RetractTasks(worker.id))
        if busy:
            self.watch_claims()

    def watch_claims(self) -> None:
        """Set the timer that looks whether workers take the tasks that they are sent."""
        decision = self._decision
        limits = decision.limits
        if limits.slots == 1 and limits.can_retract and limits.can_kill and CLAIM not in decision.timers:
            decision.timers.set(CLAIM, decision.now + policy.CLAIM_S)

    def watch_idle(self) -> None:
        """Set the timers that let idle workers above the minimum go after ``idle_timeout``."""
        decision = self._decision
        if decision.limits.min_workers >= decision.limits.max_workers:
            return
        for worker in self.fleet.idle:
            if (Timer.IDLE, worker.id) not in decision.timers:
                decision.timers.set((Timer.IDLE, worker.id), decision.now + decision.limits.idle_timeout)

    def idle_long_enough(self, number: int) -> None:
        """Stop a worker that had nothing to do for ``idle_timeout``, if there are enough without it."""
        worker = self.fleet.workers[number]
        if self.fleet.counted() - worker.counted >= self._decision.limits.min_workers:
            self.stop(worker, ExitReason.IDLE)

    # -- gone -----------------------------------------------------------------------------------------------------

    def exited(self, worker: Worker, event: WorkerExited, reason: ExitReason) -> WorkerStartError | None:
        """Forget a worker that is gone, count why, and back off from starts if it has failed.

        Args:
            worker: Whose process ended.
            event: What is known of its end.
            reason: Why it went.

        Returns:
            An error if this was a failed start.
        """
        decision = self._decision
        is_early = ended_early(worker, event, decision.now)
        self.fleet.remove(worker.id)
        self._cancel_timers(worker)
        if worker.ready_at is not None:
            decision.tally.worker_s += decision.now - worker.ready_at
        decision.tally.restarts[reason] += 1
        if is_early:
            self._count_early_end(worker)
        if reason is ExitReason.FAILED_TO_START:
            cause, hint = start_failure(worker, event, decision.limits.start_timeout)
            return self._failed_start(cause, hint, after_ready=is_early)
        if is_early and self._early_ends > 1:
            self._pause_starts(self._early_ends - 1, ready_ends_it=False)
        return None

    def _cancel_timers(self, worker: Worker) -> None:
        for timer in _WORKER_TIMERS:
            self._decision.timers.cancel((timer, worker.id))

    def _count_early_end(self, worker: Worker) -> None:
        """Count a worker that ended early, unless it was there when another did: the cause may be the same."""
        if abs(worker.id) <= abs(self._last_of_generation):
            return
        was_replacement = worker.started_at - self._last_early_end <= policy.RESTART_LAST_S
        self._early_ends = self._early_ends + 1 if was_replacement else 1
        self._last_early_end = self._decision.now
        self._last_of_generation = self.fleet.last_number

    def _pause_starts(self, failures: int, *, ready_ends_it: bool) -> None:
        self._ready_ends_pause = ready_ends_it
        self._decision.timers.set((Timer.RESTART, 0), self._decision.now + policy.restart_delay(failures))

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
