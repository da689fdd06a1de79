"""The scheduler: every decision lifepool takes about tasks, in one pure place.

Purpose
    Events go in, commands come out (``handle``); nothing else changes it. The engine feeds it what happened together
    with the time and performs what it is told. All that lifepool promises, for every backend, is decided here and, for
    the lives of workers, in the supervisor.

Rules
    1. No clock, no I/O, no randomness: ``now`` is an argument, luck is injected.
    2. A command is never performed during a decision, so nothing re-enters.
    3. An event about a task or worker that is gone is late, not wrong, and is ignored. An event that is impossible is
       an ``InternalError``.

Theory of operation
    A task is in ``_tasks`` from its submission until it is settled, and exactly one ``Settle`` is emitted for it. While
    QUEUED it is in the queue, *held* (its payload is not ready), or waits for its next try (a RETRY timer). While
    RUNNING it stands in the ``tasks`` of exactly one worker. A worker's list may also name tasks that were settled
    meanwhile (timed out, cancelled): the slot is taken until it answers or dies, because the code may still run.

    A worker with one slot runs the first task of its list; the others are *pipelined*: already sent, not started. They
    can be taken back at any time (``RetractTasks``): the backend makes sure that a task is either taken back or
    started, never both. So pipelining costs nobody anything: when the running task takes long, is interrupted, or its
    worker dies, the rest goes elsewhere.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core import history as story
from lifepool._core import policy, states
from lifepool._core.admission import Door
from lifepool._core.counters import RunTimes, Tally
from lifepool._core.dispatcher import Dispatcher
from lifepool._core.first_runs import FirstTasks
from lifepool._core.pool_states import SchedulerLife
from lifepool._core.queue import TaskQueue
from lifepool._core.states import PoolState, TaskState, WorkerState
from lifepool._core.task import Task
from lifepool._core.timers import Timer
from lifepool.errors import InternalError, PoolClosed, PoolError, TaskTimeout, WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.fleet import Worker


class Scheduler(SchedulerLife):
    """Decide which task runs on which worker, and when to give up on it.

    Args:
        limits: The pool's settings.
        random: Gives luck in [0, 1), for jitter.

    Invariants (checked from scratch by ``invariants.check``, in tests after every step):
        1. A task is in exactly one of: the queue, held, waiting for a retry, one worker's list, settled.
        2. A worker holds at most ``slots`` tasks, or with one slot and pipelining ``PIPELINE_DEPTH``.
        3. Every settled task produced exactly one ``Settle``.
    """

    def __init__(self, limits: policy.Limits, *, random: Callable[[], float]) -> None:
        super().__init__(limits)
        self.run_times = RunTimes()
        self._random = random
        self._queue = TaskQueue()
        self._held: set[int] = set()
        self.door = Door(self._desk, self._queue, self._held, self._supervisor, self.run_times)
        self._dispatcher = Dispatcher(self._desk, self._tasks, self._queue, self._supervisor, self.run_times)
        self._firsts = FirstTasks(self._desk, self._tasks, self._queue, self.fleet, self.door)
        self._recent: deque[tuple[float, on.Event]] = deque(maxlen=story.STORY_EVENTS)
        self._handlers: dict[type, Callable[..., None]] = {
            on.StartRequested: self._on_start_requested,
            on.TaskSubmitted: self._on_task_submitted,
            on.TaskPrepared: self._on_task_prepared,
            on.SubmissionRefused: self._on_submission_refused,
            on.TaskCancelled: self._on_task_cancelled,
            on.TaskReturned: self._on_task_returned,
            on.TasksRetracted: self._on_tasks_retracted,
            on.WorkerReady: self._on_worker_ready,
            on.WorkerLoading: self._on_worker_loading,
            on.WorkerLoaded: self._on_worker_loaded,
            on.WorkerExited: self._on_worker_exited,
            on.TimerFired: self._on_timer_fired,
            on.RecycleRequested: self._on_recycle_requested,
            on.DrainRequested: self._on_drain_requested,
            on.CloseRequested: self._on_close_requested,
        }
        self._on_timer: dict[Timer, Callable[[int], None]] = {
            Timer.TASK_DEADLINE: self._on_deadline,
            Timer.RETRY: self._on_retry,
            Timer.REBALANCE: lambda _: self._dispatcher.rebalance(),
            Timer.DRAIN: self._on_drain_overdue,
            Timer.RESTART: self._on_restart,
            Timer.KILL: self._supervisor.grace_over,
            Timer.FIRSTS: self._on_look_at_firsts,
            Timer.CLAIM: lambda _: self._supervisor.look_for_stopped(),
            Timer.START: self._supervisor.overdue,
            Timer.IDLE: self._supervisor.idle_long_enough,
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
        desk = self._desk
        desk.now = now
        out: list[do.Command] = []
        desk.out = out
        self._recent.append((now, event))
        self._handlers[type(event)](event)
        if desk.armed is None or desk.timers.newest < desk.armed:
            desk.arm()
        return out

    def refusal(self, timeout: float | None, fair_key: str | None = None, name: str | None = None) -> PoolError | None:
        """Why a task would be turned away now, or None; see ``Door.refusal``."""
        return self.door.refusal(self.state, timeout, fair_key, name)

    @property
    def tally(self) -> Tally:
        """What happened so far."""
        return self._desk.tally

    @property
    def crash_loop(self) -> WorkerStartError | None:
        """Why no worker comes up, while that is so."""
        return self._supervisor.crash_loop

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

    def attempts_of(self, task: int) -> int:
        """How often a task that is not settled was or is being tried."""
        return self._tasks[task].attempts + 1

    def story(self, *, task: int | None = None, worker: int | None = None) -> tuple[str, ...]:
        """The recent events that name this task or worker, oldest first, with their instants."""
        return story.tell(self._recent, task, worker)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _on_task_submitted(self, event: on.TaskSubmitted) -> None:
        if event.task in self._tasks:
            raise InternalError(f"task {event.task} was submitted twice", self.story(task=event.task))
        desk = self._desk
        task = self._tasks[event.task] = Task(event, desk.now)
        desk.tally.submitted += 1
        if self.state is states.POOL_CLOSED:  # it passed the door just before that was closed
            return self._settle(task, TaskState.CANCELLED, story.unfinished())
        if event.timeout is not None:
            desk.timers.set((Timer.TASK_DEADLINE, task.id), desk.now + event.timeout)
        if event.held:
            self._held.add(task.id)
        else:
            self._admit(task)

    def _on_task_prepared(self, event: on.TaskPrepared) -> None:
        task = self._tasks.get(event.task)
        if task is not None and event.succeeded:
            self._held.remove(task.id)
            self._admit(task)
        elif task is not None:
            self._settle(task, TaskState.FAILED)
            self._after_change()

    def _admit(self, task: Task) -> None:
        """Everything is there to run it: a place or, if somebody waits already and so has found none, the queue."""
        if not self._queue.entries and self._dispatcher.place(task):
            return
        self.door.joins_queue()
        if task.timeout is not None:
            task.was_predicted = self.door.predicts(task.name)
            if not task.firm and self.run_times.mean(task.name) is None:
                self._firsts.note(task, task.timeout)
        self._enqueue(task)
        self._supervisor.scale_up(len(self._queue))

    def _on_submission_refused(self, _: on.SubmissionRefused) -> None:
        self._desk.tally.refused += 1

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
        number, run_s = event.task, event.run_s
        if number not in worker.tasks:
            # Not a bug of ours: users' code can write to the worker's descriptors.
            self._supervisor.kill(worker, "it answered a task that it did not have")
            return
        desk = self._desk
        worker.tasks.remove(number)
        worker.completed += 1
        worker.head_since = desk.now
        if worker.interrupted is not None:
            self._supervisor.answered(worker, number)
        if worker.loading is not None:
            self._supervisor.forget_import(worker)
        tally = desk.tally
        tally.run.observe(run_s)
        task = self._tasks.get(number)
        if task is not None:
            self.run_times.learn(task.name, run_s)
            if self._firsts.waiting and worker.completed > 1:
                self._firsts.learn(task.name, run_s)
            waited = desk.now - run_s - task.submitted
            tally.wait.observe(waited if waited > 0.0 else 0.0)
            if event.succeeded:
                if task.timeout is not None:
                    self.door.learn(late=False)
                self._settle(task, states.TASK_COMPLETED)
            else:
                self._failed(task, retryable=event.retryable)
        if worker.tasks and worker.tasks[0] not in self._tasks and self.limits.slots == 1:
            self._supervisor.interrupt(worker, worker.tasks[0])  # it is running now, and nobody wants it any more
        self._after_task(worker, event)

    def _failed(self, task: Task, *, retryable: bool) -> None:
        if retryable and task.retries > 0:
            self._retry(task)
        else:
            self._settle(task, TaskState.FAILED)

    def _after_task(self, worker: Worker, event: on.TaskReturned) -> None:
        """The worker has one task less: let it go, or let it have the next."""
        if (event.retire or self._recycler.is_needed) and worker.state is WorkerState.BUSY:
            self._recycler.after_task(worker, event, running=self.state is PoolState.RUNNING)
        if self.state is not states.POOL_RUNNING or not self._dispatcher.refill(worker):
            self._settle_down(worker)
            self._after_change()

    def _settle_down(self, worker: Worker) -> None:
        """A worker that holds no task any more is ready for the next, or may go."""
        if worker.tasks:
            return
        if worker.state is states.WORKER_BUSY:
            self.fleet.set_ready(worker)
        elif worker.state is WorkerState.DRAINING:
            self._supervisor.stop(worker, worker.leaving)

    def _on_tasks_retracted(self, event: on.TasksRetracted) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        suspect, worker.suspect = worker.suspect, None
        if not event.tasks:
            return  # too late, it had started them; asking again would go in circles
        back = set(event.tasks)
        if worker.interrupted is not None and worker.interrupted in back:
            self._supervisor.answered(worker, worker.interrupted)  # it never ran: there is nothing to break off
        if suspect in back and worker.state is not WorkerState.STOPPING:
            self._supervisor.kill(worker, "it did not take the task that it was sent")
        worker.tasks = [task for task in worker.tasks if task not in back]
        self._requeue(event.tasks)
        self._settle_down(worker)
        self._after_change()

    def _enqueue(self, task: Task, *, front: bool = False) -> None:
        self._queue.push(
            task.id,
            name=task.name,
            priority=task.priority,
            fair_key=task.fair_key,
            submitted=task.submitted,
            front=front,
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
        desk = self._desk
        waits = task.state is states.TASK_QUEUED
        task.move(outcome)
        del self._tasks[task.id]
        if waits and not self._queue.remove(task.id):
            self._held.discard(task.id)
            desk.timers.cancel((Timer.RETRY, task.id))
        if task.timeout is not None:
            desk.timers.cancel((Timer.TASK_DEADLINE, task.id))
        desk.tally.outcomes[outcome] += 1
        desk.out.append(settle := do.Settle(task.id, outcome, error))
        if outcome is not states.TASK_COMPLETED:
            settle.details = task

    def _give_up_work(self, task: Task, *, abandon: bool = False) -> None:
        """The task was settled; see that the worker that holds it does not work for nobody."""
        worker = task.worker
        if worker is None:
            return
        if self.limits.can_retract and len(worker.tasks) > 1:
            self._desk.out.append(do.RetractTasks(worker.id))
        if self._is_running(task, worker) and not abandon:
            self._supervisor.interrupt(worker, task.id)

    def _is_running(self, task: Task, worker: Worker) -> bool:
        """Whether the worker is taken to run the task, not to have it pipelined."""
        return self.limits.slots > 1 or worker.tasks[0] == task.id

    def _has_run_for(self, task: Task) -> float | None:
        """Seconds for which the task runs, or None if it does not."""
        worker = task.worker
        if worker is None or not self._is_running(task, worker) or worker.loading == task.id:
            return None
        return self._desk.now - worker.head_since

    def _retry(self, task: Task) -> None:
        task.retries -= 1
        task.attempts += 1
        task.move(TaskState.QUEUED)
        task.worker = None
        self._desk.tally.retried += 1
        delay = policy.retry_delay(task.attempts, self._random())
        self._desk.timers.set((Timer.RETRY, task.id), self._desk.now + delay)

    def _on_retry(self, number: int) -> None:
        self._enqueue(self._tasks[number])
        self._after_change()

    def _on_deadline(self, number: int) -> None:
        task = self._tasks[number]
        timeout, ran_s = task.timeout or 0.0, self._has_run_for(task)
        importing = task.worker is not None and task.worker.loading == number
        # If it was being imported for, or ran too long, it was not let in wrongly.
        if task.was_predicted and not importing and (ran_s or 0.0) < timeout / 2:
            self.door.learn(late=True)
        if ran_s is not None:
            self.run_times.learn_at_least(task.name, ran_s)
        error = TaskTimeout(timeout, started=ran_s is not None, importing=importing)
        self._settle(task, TaskState.TIMED_OUT, error)
        self._give_up_work(task)
        self._after_change()

    def _on_look_at_firsts(self, _: int) -> None:
        for task, refusal in self._firsts.hopeless():
            self._desk.tally.refused += 1
            self._settle(task, TaskState.CANCELLED, refusal)
        self._after_change()

    # -- matching -------------------------------------------------------------------------------------------------

    def _after_change(self) -> None:
        """Something became free or came to wait: match them up, then see whether the fleet has the right size."""
        self._dispatcher.dispatch()
        if not self._queue.entries:
            self._dispatcher.steal_for_idle()
        elif self.state is not states.POOL_CLOSED:
            self._supervisor.scale_up(len(self._queue))
        self._supervisor.watch_idle()
        if self.state is states.POOL_DRAINING:
            self._finish_drain()

    # -- workers --------------------------------------------------------------------------------------------------

    def _on_worker_ready(self, event: on.WorkerReady) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None or worker.state is not WorkerState.STARTING:
            return
        self._supervisor.became_ready(worker)
        self._supervisor.retire_replaced()
        self._recycler.go_on()
        if self.state is PoolState.STARTING and not self.fleet.count(WorkerState.STARTING):
            self._report_started()
        if self.state is PoolState.RUNNING:
            self._supervisor.ensure_minimum()
        self._after_change()

    def _on_worker_loading(self, event: on.WorkerLoading) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None or worker.state is WorkerState.STOPPING or self.limits.slots > 1:
            return
        if worker.tasks and worker.tasks[0] == event.task:
            self._supervisor.begins_import(worker, event.task)

    def _on_worker_loaded(self, event: on.WorkerLoaded) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is not None and worker.loading == event.task and worker.state is not WorkerState.STOPPING:
            self._supervisor.ends_import(worker)

    def _on_worker_exited(self, event: on.WorkerExited) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        failure = self._supervisor.exited(worker, event, ending=self.state.is_ending)
        unstarted = set(event.unstarted)
        self._requeue(tuple(task for task in worker.tasks if task in unstarted))
        for number in worker.tasks:
            if number not in unstarted and (task := self._tasks.get(number)) is not None:
                self._lose(task, event, worker)
        if failure is not None:
            self._on_failed_start(failure)
        self._recycler.go_on()
        if self.state is PoolState.RUNNING:
            self._supervisor.ensure_minimum()
        self._after_change()
        self._report_closed()

    def _lose(self, task: Task, event: on.WorkerExited, worker: Worker) -> None:
        if task.retries > 0:
            self._retry(task)
            return
        error = story.lost(event, event.reason or worker.leaving, self.story(task=task.id))
        self._settle(task, TaskState.LOST, error)

    def _on_failed_start(self, failure: WorkerStartError) -> None:
        self._recycler.end(WorkerStartError(failure.cause, hint=failure.hint))
        if self.state is PoolState.STARTING:
            self._desk.out.append(do.ReportStarted(failure))
            self._close()
        elif self._supervisor.crash_loop is not None:
            for task in list(self._tasks.values()):
                self._settle(task, TaskState.LOST, WorkerStartError(failure.cause, hint=failure.hint))

    def _on_recycle_requested(self, _: on.RecycleRequested) -> None:
        if self.state is PoolState.RUNNING:
            self._recycler.replace_all()
        else:
            self._desk.out.append(do.ReportRecycled(PoolClosed("the pool does not run")))

    def _on_restart(self, _: int) -> None:
        if self.state is PoolState.RUNNING:
            self._supervisor.try_again()
        self._after_change()

    def _on_timer_fired(self, _: on.TimerFired) -> None:
        self._desk.armed = None
        while (key := self._desk.timers.pop_due(self._desk.now)) is not None:
            self._on_timer[key[0]](key[1])
