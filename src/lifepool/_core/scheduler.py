"""The scheduler: every decision lifepool takes about tasks and workers, in one pure place.

Purpose
    Events go in, commands come out (``handle``); nothing else changes it. The engine feeds it what happened together
    with the time and performs what it is told. All that lifepool promises, for every backend, is decided here.

Rules
    1. No clock, no I/O, no randomness: ``now`` is an argument, luck is injected.
    2. A command is never performed during a decision, so nothing re-enters.
    3. An event about a task or worker that is gone is late, not wrong, and is ignored. An event that is impossible is
       an ``InternalError``.

Theory of operation
    A task is in ``_tasks`` from its submission until it is settled, and exactly one ``Settle`` is emitted for it. While
    QUEUED it is in the queue, or waits for its next try (a RETRY timer). While RUNNING it stands in the ``tasks`` of
    exactly one worker. A worker's list may also name tasks that were settled meanwhile (timed out, cancelled): the
    slot stays taken until the worker answers or dies, because the code may still be running.

    A worker with one slot runs the first task of its list; the others are *pipelined*: already sent, not started. They
    can be taken back at any time (``RetractTasks``): the backend makes sure that a task is either taken back or
    started, never both. So pipelining costs nobody anything: when the running task takes long, is interrupted, or its
    worker dies, the rest goes elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core import policy
from lifepool._core.fleet import Fleet, Worker
from lifepool._core.queue import TaskQueue
from lifepool._core.states import POOL_TRANSITIONS, TASK_TRANSITIONS, PoolState, TaskState, WorkerState, moved
from lifepool._core.statistics import RunTimes, Tally
from lifepool._core.timers import Timer, TimerQueue
from lifepool.errors import (
    InternalError,
    PoolClosed,
    PoolError,
    QueueFull,
    TaskTimeout,
    WorkerLost,
    WorkerStartError,
)

#: Events remembered for ``story``: enough to see a task's neighbours, small enough to keep always.
STORY_EVENTS = 256

NOT_STARTED_HINT = (
    "start it with FastAPI(lifespan=pool.lifespan), or 'async with pool:'; in tests use TestClient as a context manager"
)


class Task:
    """One task's books, from submission until it is settled."""

    __slots__ = (
        "attempts", "fair_key", "id", "name", "priority", "retries", "started", "state", "submitted", "timeout",
        "worker",
    )  # fmt: skip

    def __init__(self, event: on.TaskSubmitted, now: float) -> None:
        self.id = event.task
        self.name = event.name
        self.priority = event.priority
        self.timeout = event.timeout
        self.retries = event.retries
        self.fair_key = event.fair_key
        self.submitted = now
        self.started = 0.0
        self.attempts = 0
        self.state = TaskState.QUEUED
        self.worker: Worker | None = None

    def move(self, state: TaskState) -> None:
        """Change state along the table."""
        self.state = moved(TASK_TRANSITIONS, self.state, state, f"task {self.id}")


class Scheduler:
    """Decide which task runs on which worker, and when to give up on either.

    Args:
        limits: The pool's settings.
        random: Gives luck in [0, 1), for jitter.

    Invariants (``check_invariants``):
        1. A task is in exactly one of: the queue, waiting for a retry, one worker's list, settled.
        2. A worker holds at most ``slots`` tasks, or with one slot and pipelining ``PIPELINE_DEPTH``.
        3. Every settled task produced exactly one ``Settle``.
    """

    def __init__(self, limits: policy.Limits, *, random: Callable[[], float]) -> None:
        self.limits = limits
        self.state = PoolState.CREATED
        self.fleet = Fleet(limits)
        self.tally = Tally()
        self.run_times = RunTimes()
        #: Why no worker can be started, while that is so.
        self.crash_loop: str | None = None
        self._random = random
        self._tasks: dict[int, Task] = {}
        self._queue = TaskQueue()
        self._timers = TimerQueue()
        self._armed: float | None = None  # the instant last asked for by SetTimer
        self._failed_starts = 0  # in a row
        self._closed_reported = False
        self._recent: deque[tuple[float, on.Event]] = deque(maxlen=STORY_EVENTS)
        self._now = 0.0
        self._out: list[do.Command] = []
        self._handlers: dict[type, Callable[..., None]] = {
            on.StartRequested: self._on_start_requested,
            on.TaskSubmitted: self._on_task_submitted,
            on.SubmissionRefused: self._on_submission_refused,
            on.TaskCancelled: self._on_task_cancelled,
            on.TaskReturned: self._on_task_returned,
            on.TasksRetracted: self._on_tasks_retracted,
            on.WorkerReady: self._on_worker_ready,
            on.WorkerExited: self._on_worker_exited,
            on.TimerFired: self._on_timer_fired,
            on.DrainRequested: self._on_drain_requested,
            on.CloseRequested: self._on_close_requested,
        }
        self._on_timer: dict[Timer, Callable[[int], None]] = {
            Timer.TASK_DEADLINE: self._on_deadline,
            Timer.RETRY: self._on_retry,
            Timer.KILL: self._on_grace_over,
            Timer.START: self._on_start_overdue,
            Timer.IDLE: self._on_idle,
            Timer.RESTART: self._on_restart,
            Timer.REBALANCE: self._on_rebalance,
            Timer.DRAIN: self._on_drain_overdue,
        }

    # -- the door -------------------------------------------------------------------------------------------------

    def handle(self, event: on.Event, now: float) -> list[do.Command]:
        """Apply one event and return what to do next, in order.

        Args:
            event: What happened.
            now: Monotonic time in seconds, never earlier than before.

        Raises:
            InternalError: If the event is impossible in the current state.
        """
        self._now = now
        self._out = out = []
        self._recent.append((now, event))
        self._handlers[type(event)](event)
        earliest = self._timers.earliest()
        if earliest is not None and (self._armed is None or earliest < self._armed):
            self._armed = earliest
            out.append(do.SetTimer(earliest))
        return out

    def refusal(self, timeout: float | None, fair_key: str | None = None) -> PoolError | None:
        """Why a task would be turned away now, or None. Changes nothing, so it can be asked before any work is done.

        Args:
            timeout: The task's timeout in seconds, or None.
            fair_key: The task's key for fairness, or None.
        """
        if self.state is not PoolState.RUNNING and self.state is not PoolState.STARTING:
            return self._closed_error()
        if self.crash_loop is not None:
            return WorkerStartError(self.crash_loop, hint="the pool keeps trying; it heals when the cause goes")
        queued = len(self._queue)
        if not queued and self.fleet.free_worker() is not None:
            return None
        if queued >= self.limits.max_queue:
            return QueueFull(f"the queue is full ({queued} tasks wait)", retry_after=self._retry_after(queued))
        if fair_key is not None and self._over_fair_share(fair_key):
            return QueueFull(
                f"{fair_key!r} has its share of the queue already", retry_after=self._retry_after(queued)
            )
        if timeout is not None:
            wait = policy.predicted_wait(queued, self.run_times.overall_s, self._slots())
            if wait > timeout:
                return QueueFull(
                    f"the predicted wait of {wait:.3g} s is longer than the timeout of {timeout:g} s",
                    retry_after=wait - timeout,
                )
        return None

    @property
    def running(self) -> int:
        """Tasks without an outcome that are with a worker."""
        return sum(number in self._tasks for worker in self.fleet for number in worker.tasks)

    @property
    def waiting(self) -> int:
        """Tasks without an outcome that are with no worker: queued, or waiting for their next try."""
        return len(self._tasks) - self.running

    def task_state(self, task: int) -> TaskState | None:
        """The state of a task that is not settled, or None."""
        known = self._tasks.get(task)
        return None if known is None else known.state

    def story(self, *, task: int | None = None, worker: int | None = None) -> tuple[str, ...]:
        """The recent events that name this task or worker, oldest first, with their instants."""
        return tuple(
            f"{when:.6f} {event}"
            for when, event in self._recent
            if (task is not None and _names(event, "task", task))
            or (worker is not None and _names(event, "worker", worker))
        )

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _on_task_submitted(self, event: on.TaskSubmitted) -> None:
        if event.task in self._tasks:
            raise InternalError(f"task {event.task} was submitted twice", self.story(task=event.task))
        now = self._now
        task = self._tasks[event.task] = Task(event, now)
        self.tally.submitted += 1
        if event.timeout is not None:
            self._timers.set((Timer.TASK_DEADLINE, task.id), now + event.timeout)
        if not len(self._queue) and (worker := self.fleet.free_worker()) is not None:
            self._send(task, worker)
            return
        self._enqueue(task)
        self._dispatch()

    def _on_submission_refused(self, _: on.SubmissionRefused) -> None:
        self.tally.refused += 1

    def _on_task_cancelled(self, event: on.TaskCancelled) -> None:
        task = self._tasks.get(event.task)
        if task is not None:
            self._settle(task, TaskState.CANCELLED)
            self._give_up_work(task, abandon=event.abandon)
            self._after_change()

    def _on_task_returned(self, event: on.TaskReturned) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        if event.task not in worker.tasks:
            # Not a bug of ours: users' code can write to the worker's descriptors.
            self._kill(worker, "it answered a task that it did not have")
            return
        self._count_run(event)
        worker.tasks.remove(event.task)
        worker.completed += 1
        worker.head_since = self._now
        if worker.interrupted == event.task:
            worker.interrupted = None
            self._timers.cancel((Timer.KILL, worker.id))
        task = self._tasks.get(event.task)
        if task is not None:
            self._answer(task, event)
        self._promote_head(worker)
        self._after_task(worker, event.memory)

    def _count_run(self, event: on.TaskReturned) -> None:
        """Count a run; also learn from it, unless it was broken off."""
        task = self._tasks.get(event.task)
        self.tally.run.observe(event.run_s)
        if task is not None:
            self.run_times.learn(task.name, event.run_s)
            self.tally.wait.observe(max(0.0, self._now - event.run_s - task.submitted))

    def _answer(self, task: Task, event: on.TaskReturned) -> None:
        if event.succeeded:
            self._settle(task, TaskState.COMPLETED)
        elif event.retryable and task.retries > 0:
            self._retry(task)
        else:
            self._settle(task, TaskState.FAILED)

    def _promote_head(self, worker: Worker) -> None:
        """The next task of the worker is running now; if nobody wants it any more, break it off."""
        if not worker.tasks or self.limits.slots > 1:
            return
        head = self._tasks.get(worker.tasks[0])
        if head is None:
            self._interrupt(worker, worker.tasks[0])
        else:
            head.started = self._now

    def _after_task(self, worker: Worker, memory: int | None) -> None:
        """The worker has one task less: let it go, or let it have the next."""
        if worker.state is WorkerState.BUSY:
            limit = self.limits.max_worker_memory
            if self.fleet.retires_after(worker, 0):
                self._retire(worker, "max_tasks_per_worker")
            elif limit is not None and memory is not None and memory > limit:
                self._retire(worker, "max_worker_memory")
            elif not worker.tasks:
                self.fleet.set_ready(worker)
        elif worker.state is WorkerState.DRAINING and not worker.tasks:
            self._stop(worker, worker.leaving)
        self._after_change()

    def _on_tasks_retracted(self, event: on.TasksRetracted) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        if not event.tasks:
            return  # too late, it had started them; asking again would go in circles
        back = set(event.tasks)
        worker.tasks = [task for task in worker.tasks if task not in back]
        self._requeue(event.tasks)
        if worker.state is WorkerState.BUSY and not worker.tasks:
            self.fleet.set_ready(worker)
        elif worker.state is WorkerState.DRAINING and not worker.tasks:
            self._stop(worker, worker.leaving)
        self._after_change()

    def _enqueue(self, task: Task, *, front: bool = False) -> None:
        self._queue.push(
            task.id, priority=task.priority, fair_key=task.fair_key, submitted=task.submitted, front=front
        )

    def _requeue(self, tasks: tuple[int, ...]) -> None:
        """Tasks that came back unstarted wait before their peers again, in their old order."""
        for number in reversed(tasks):
            task = self._tasks.get(number)
            if task is not None:
                task.move(TaskState.QUEUED)
                task.worker = None
                self._enqueue(task, front=True)

    def _settle(self, task: Task, outcome: TaskState, error: PoolError | None = None) -> None:
        waits = task.state is TaskState.QUEUED
        task.move(outcome)
        del self._tasks[task.id]
        if waits and not self._queue.remove(task.id):
            self._timers.cancel((Timer.RETRY, task.id))
        if task.timeout is not None:
            self._timers.cancel((Timer.TASK_DEADLINE, task.id))
        self.tally.outcomes[outcome] += 1
        self._out.append(do.Settle(task.id, outcome, error))

    def _give_up_work(self, task: Task, *, abandon: bool = False) -> None:
        """The task was settled; see that the worker that holds it does not work for nobody."""
        worker = task.worker
        if worker is None or worker.id not in self.fleet.workers:
            return
        is_running = worker.tasks[0] == task.id or self.limits.slots > 1
        if self.limits.can_retract and len(worker.tasks) > 1:
            self._out.append(do.RetractTasks(worker.id))
        if is_running and not abandon:
            self._interrupt(worker, task.id)

    def _interrupt(self, worker: Worker, task: int) -> None:
        """Break off what the worker runs: softly first, where there is a way to."""
        if worker.state is WorkerState.STOPPING or worker.interrupted is not None:
            return
        if self.limits.can_interrupt:
            worker.interrupted = task
            self._out.append(do.InterruptTask(worker.id, task))
            if self.limits.can_kill:
                self._timers.set((Timer.KILL, worker.id), self._now + policy.INTERRUPT_GRACE_S)
        elif self.limits.can_kill:
            self._kill(worker, "interrupted")

    def _retry(self, task: Task) -> None:
        task.retries -= 1
        task.attempts += 1
        task.move(TaskState.QUEUED)
        task.worker = None
        self.tally.retried += 1
        self._timers.set(
            (Timer.RETRY, task.id), self._now + policy.retry_delay(task.attempts, self._random())
        )

    def _on_retry(self, number: int) -> None:
        self._enqueue(self._tasks[number])
        self._after_change()

    def _on_deadline(self, number: int) -> None:
        task = self._tasks[number]
        timeout = task.timeout
        assert timeout is not None  # noqa: S101 - only tasks with a timeout have this timer
        started = task.worker is not None and (task.worker.tasks[0] == number or self.limits.slots > 1)
        self._settle(task, TaskState.TIMED_OUT, TaskTimeout(timeout, started=started))
        self._give_up_work(task)
        self._after_change()

    # -- dispatch -------------------------------------------------------------------------------------------------

    def _after_change(self) -> None:
        """Something became free or came to wait: match them up, then see whether the fleet has the right size."""
        self._dispatch()
        if not len(self._queue):
            self._steal_for_idle()
        self._schedule_idle_stop()
        if self.state is PoolState.DRAINING:
            self._finish_drain()

    def _dispatch(self) -> None:
        queue, tasks = self._queue, self._tasks
        while (number := queue.peek()) is not None:
            task = tasks[number]
            worker = self.fleet.free_worker() or self._pipeline_worker(task)
            if worker is None:
                break
            queue.pop()
            self._send(task, worker)
        if len(queue):
            self._scale_up()

    def _pipeline_worker(self, task: Task) -> Worker | None:
        if not self.limits.can_retract or self.limits.slots > 1:
            return None
        depth = policy.pipeline_depth(self.run_times.estimate(task.name))
        return self.fleet.pipeline_worker(depth, self._now) if depth > 1 else None

    def _send(self, task: Task, worker: Worker) -> None:
        if worker.state is WorkerState.READY:
            self.fleet.set_busy(worker)
            worker.head_since = self._now
            self._timers.cancel((Timer.IDLE, worker.id))
        elif self.limits.slots == 1 and (Timer.REBALANCE, 0) not in self._timers:
            self._timers.set((Timer.REBALANCE, 0), self._now + policy.OVERRUN_S)
        task.move(TaskState.RUNNING)
        task.worker = worker
        task.started = self._now
        worker.tasks.append(task.id)
        self._out.append(do.SendTask(worker.id, task.id))

    def _steal_for_idle(self) -> None:
        """Nobody waits, a worker is idle, another has tasks pipelined that are worth the way: take them back."""
        if not self.fleet.idle or self.limits.slots > 1:
            return
        for worker in self.fleet:
            if len(worker.tasks) > 1 and worker.state is WorkerState.BUSY and self._worth_stealing(worker):
                self._out.append(do.RetractTasks(worker.id))
                return

    def _worth_stealing(self, worker: Worker) -> bool:
        task = self._tasks.get(worker.tasks[1])
        if task is None:
            return False
        estimate = self.run_times.estimate(task.name)
        return estimate is None or estimate >= policy.STEAL_TASK_S

    def _on_rebalance(self, _: int) -> None:
        again = False
        for worker in self.fleet:
            if len(worker.tasks) > 1:
                again = True
                if self._now - worker.head_since >= policy.OVERRUN_S:
                    self._out.append(do.RetractTasks(worker.id))
        if again:
            self._timers.set((Timer.REBALANCE, 0), self._now + policy.OVERRUN_S)

    # -- workers --------------------------------------------------------------------------------------------------

    def _on_worker_ready(self, event: on.WorkerReady) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None or worker.state is not WorkerState.STARTING:
            return
        self._timers.cancel((Timer.START, worker.id))
        self._failed_starts = 0
        self.crash_loop = None
        worker.ready_at = self._now
        self.fleet.set_ready(worker)
        if self.state is PoolState.STARTING and not self.fleet.count(WorkerState.STARTING):
            self._report_started()
        self._after_change()

    def _on_worker_exited(self, event: on.WorkerExited) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        was = worker.state
        self.fleet.remove(worker.id)
        for timer in (Timer.START, Timer.KILL, Timer.IDLE):
            self._timers.cancel((timer, worker.id))
        if worker.ready_at:
            self.tally.worker_s += self._now - worker.ready_at
        unstarted = set(event.unstarted)
        self._requeue(tuple(task for task in worker.tasks if task in unstarted))
        for number in worker.tasks:
            if number not in unstarted and (task := self._tasks.get(number)) is not None:
                self._lose(task, event, worker)
        self._account_for_exit(worker, was, event)
        if self.state in (PoolState.RUNNING, PoolState.STARTING):
            self._ensure_minimum()
        self._after_change()
        self._report_closed()

    def _lose(self, task: Task, event: on.WorkerExited, worker: Worker) -> None:
        if task.retries > 0 and self.state is not PoolState.CLOSED:
            self._retry(task)
            return
        error = WorkerLost(
            exitcode=event.exitcode,
            signal=event.signal,
            oom_suspected=event.oom_suspected,
            reason=event.reason or worker.leaving,
            story=self.story(task=task.id),
        )
        self._settle(task, TaskState.LOST, error)

    def _account_for_exit(self, worker: Worker, was: WorkerState, event: on.WorkerExited) -> None:
        """Count the exit; one before or right after the start is a failed start, and those are backed off from."""
        ending = self.state in (PoolState.DRAINING, PoolState.CLOSED)
        if was is WorkerState.STOPPING and (worker.ready_at or ending):
            self.tally.restarts[worker.leaving] += 1
            return
        if worker.ready_at and (worker.completed or worker.tasks):
            self.tally.restarts["out of memory" if event.oom_suspected else "died"] += 1
            return
        self.tally.restarts["failed to start"] += 1
        cause = event.start_error or worker.leaving or event.reason or str(_exit_of(event))
        self._failed_starts += 1
        if self.state is PoolState.STARTING:
            self._out.append(do.ReportStarted(WorkerStartError(cause, hint=event.start_hint)))
            self._close()
        elif self.state in (PoolState.RUNNING, PoolState.DRAINING):
            delay = policy.restart_delay(self._failed_starts)
            self._timers.set((Timer.RESTART, 0), self._now + delay)
            self._check_crash_loop(cause, event.start_hint)

    def _check_crash_loop(self, cause: str, hint: str | None) -> None:
        alive = self.fleet.count(WorkerState.READY, WorkerState.BUSY, WorkerState.DRAINING)
        if alive or self._failed_starts < policy.CRASH_LOOP_STARTS:
            return
        self.crash_loop = cause
        for task in list(self._tasks.values()):
            self._settle(task, TaskState.LOST, WorkerStartError(cause, hint=hint))

    def _on_restart(self, _: int) -> None:
        if self.state is PoolState.RUNNING:
            if self.crash_loop is None:
                self._ensure_minimum()
            elif not self.fleet.count(WorkerState.STARTING):
                self._start_worker()  # one at a time is enough to see whether the cause is gone
        self._after_change()

    def _ensure_minimum(self) -> None:
        if (Timer.RESTART, 0) in self._timers or self.crash_loop is not None:
            return
        for _ in range(self.limits.min_workers - self.fleet.counted()):
            self._start_worker()

    def _scale_up(self) -> None:
        """More tasks wait than workers are on their way: start some."""
        if self.crash_loop is not None or (Timer.RESTART, 0) in self._timers:
            return
        counted = self.fleet.counted()
        if counted >= self.limits.max_workers or self.state is PoolState.CLOSED:
            return
        wanted = len(self._queue) - self.fleet.count(WorkerState.STARTING) * self.limits.slots
        for _ in range(min(wanted, self.limits.max_workers - counted)):
            self._start_worker()

    def _start_worker(self) -> None:
        worker = self.fleet.add()
        self._timers.set((Timer.START, worker.id), self._now + self.limits.start_timeout)
        self._out.append(do.StartWorker(worker.id))

    def _retire(self, worker: Worker, why: str) -> None:
        """The worker has done its share: it finishes what it runs; a successor is started at once."""
        if worker.tasks:
            self.fleet.set_leaving(worker, WorkerState.DRAINING, why)
            self._out.append(do.RetractTasks(worker.id))
        else:
            self._stop(worker, why)
        if self.state is PoolState.RUNNING:
            self._ensure_minimum()

    def _stop(self, worker: Worker, why: str) -> None:
        self.fleet.set_leaving(worker, WorkerState.STOPPING, why)
        self._timers.set((Timer.KILL, worker.id), self._now + policy.STOP_GRACE_S)
        self._out.append(do.StopWorker(worker.id))

    def _kill(self, worker: Worker, why: str) -> None:
        if worker.state is not WorkerState.STOPPING:
            self.fleet.set_leaving(worker, WorkerState.STOPPING, why)
        self._timers.cancel((Timer.KILL, worker.id))
        self._out.append(do.KillWorker(worker.id))

    def _on_grace_over(self, number: int) -> None:
        worker = self.fleet.workers[number]
        self._kill(worker, "interrupted" if worker.interrupted is not None else "it did not stop when asked to")

    def _on_start_overdue(self, number: int) -> None:
        self._kill(
            self.fleet.workers[number],
            f"it was not ready within start_timeout ({self.limits.start_timeout:g} s)",
        )

    def _schedule_idle_stop(self) -> None:
        if self.limits.min_workers >= self.limits.max_workers:
            return
        for worker in self.fleet.idle:
            if (Timer.IDLE, worker.id) not in self._timers:
                self._timers.set((Timer.IDLE, worker.id), self._now + self.limits.idle_timeout)

    def _on_idle(self, number: int) -> None:
        worker = self.fleet.workers[number]
        if self.fleet.counted() > self.limits.min_workers and worker.state is WorkerState.READY:
            self._stop(worker, "idle_timeout")

    # -- the pool's life ------------------------------------------------------------------------------------------

    def _move(self, state: PoolState) -> None:
        self.state = moved(POOL_TRANSITIONS, self.state, state, "the pool")

    def _on_start_requested(self, _: on.StartRequested) -> None:
        self._move(PoolState.STARTING)
        self._ensure_minimum()
        if not self.limits.min_workers:
            self._report_started()

    def _report_started(self) -> None:
        self._move(PoolState.RUNNING)
        self._out.append(do.ReportStarted())

    def _on_drain_requested(self, event: on.DrainRequested) -> None:
        if self.state is PoolState.CREATED:
            self._close()
        elif self.state is PoolState.STARTING:
            self._out.append(do.ReportStarted(PoolClosed("the pool was closed while it started")))
            self._close()
        elif self.state is PoolState.RUNNING:
            self._move(PoolState.DRAINING)
            self._timers.set((Timer.DRAIN, 0), self._now + event.timeout)
            self._finish_drain()

    def _finish_drain(self) -> None:
        """Once nothing is left to do, let every worker go."""
        if self._tasks:
            return
        for worker in list(self.fleet):
            if worker.state is WorkerState.READY:
                self._stop(worker, "closed")
            elif worker.state is WorkerState.STARTING:
                self._kill(worker, "closed")
        if not len(self.fleet):
            self._move(PoolState.CLOSED)
            self._report_closed()

    def _on_drain_overdue(self, _: int) -> None:
        if self.state is PoolState.DRAINING:
            self._close()

    def _on_close_requested(self, _: on.CloseRequested) -> None:
        if self.state is PoolState.STARTING:
            self._out.append(do.ReportStarted(PoolClosed("the pool was closed while it started")))
        if self.state is not PoolState.CLOSED:
            self._close()

    def _close(self) -> None:
        """End now: settle what is left, kill who is left."""
        self._move(PoolState.CLOSED)
        for task in list(self._tasks.values()):
            error = PoolClosed(
                "the pool was closed before the task was done", hint="give it a longer drain_timeout"
            )
            self._settle(task, TaskState.CANCELLED, error)
        for worker in list(self.fleet):
            self._kill(worker, "closed")
        self._report_closed()

    def _report_closed(self) -> None:
        if self.state is PoolState.CLOSED and not len(self.fleet) and not self._closed_reported:
            self._closed_reported = True
            self._out.append(do.ReportClosed())

    def _on_timer_fired(self, _: on.TimerFired) -> None:
        self._armed = None
        while (key := self._timers.pop_due(self._now)) is not None:
            self._on_timer[key[0]](key[1])

    # -- numbers --------------------------------------------------------------------------------------------------

    def _slots(self) -> int:
        return self.limits.max_workers * self.limits.slots

    def _retry_after(self, queued: int) -> float:
        """Seconds until half the queue has drained: by then there is room for more than one."""
        return max(0.05, policy.predicted_wait(queued, self.run_times.overall_s, self._slots()) / 2)

    def _over_fair_share(self, key: str) -> bool:
        """Whether the key holds its equal share of the queue, one share being kept free for keys to come."""
        return self._queue.waiting_of(key) >= max(1, self.limits.max_queue // (self._queue.keys_waiting + 1))

    def _closed_error(self) -> PoolClosed:
        if self.state is PoolState.CREATED:
            return PoolClosed("the pool was never started", hint=NOT_STARTED_HINT)
        if self.state is PoolState.DRAINING:
            return PoolClosed("the pool is draining", hint="the server is shutting down: ask another one")
        return PoolClosed("the pool is closed", hint="make a new Pool: a closed one can't be started again")

    def check_invariants(self) -> None:
        """Derive the books from scratch and compare; for tests.

        Raises:
            InternalError: If they disagree.
        """
        held = [number for worker in self.fleet for number in worker.tasks]
        if len(held) != len(set(held)):
            raise InternalError(f"a task is with two workers: {held}")
        for task in self._tasks.values():
            places = (
                (task.id in self._queue)
                + ((Timer.RETRY, task.id) in self._timers)
                + sum(task.id in worker.tasks for worker in self.fleet)
            )
            if places != 1:
                raise InternalError(f"task {task.id} is in {places} places", self.story(task=task.id))
            if (task.state is TaskState.RUNNING) is not (task.worker is not None):
                raise InternalError(f"task {task.id} is {task.state.name} with worker {task.worker}")
        most = self.limits.slots if self.limits.slots > 1 else policy.PIPELINE_DEPTH
        for worker in self.fleet:
            if len(worker.tasks) > most:
                raise InternalError(f"worker {worker.id} holds {len(worker.tasks)} tasks")
            if (worker.state is WorkerState.READY) is not (worker in self.fleet.idle):
                raise InternalError(f"worker {worker.id} is {worker.state.name}, idle list disagrees")
            if worker.state is WorkerState.READY and worker.tasks:
                raise InternalError(f"worker {worker.id} is READY and holds {worker.tasks}")


def _names(event: on.Event, field: str, number: int) -> bool:
    return getattr(event, field, None) == number or number in getattr(event, f"{field}s", ())


def _exit_of(event: on.WorkerExited) -> WorkerLost:
    return WorkerLost(exitcode=event.exitcode, signal=event.signal, oom_suspected=event.oom_suspected)
