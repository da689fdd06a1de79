"""The scheduler: every decision lifepool takes, in one pure place.

Purpose
    Events go in, commands come out (``handle``); nothing else changes it, but for the count of refusals (``admit``).
    The engine feeds it what happened together with the time, and performs the commands. All that lifepool promises, for
    every backend, is decided here.

Rules
    1. No clock, no I/O, no randomness: ``now`` and the random numbers for jitter are given to it.
    2. A command is never performed during a decision, so nothing re-enters.
    3. An event about a task or worker that is gone is late, not wrong, and is ignored. An event that is impossible is
       an ``InternalError``.

Theory of operation
    A task is in the ``TaskTable`` from its submission until it is settled, and exactly one ``Settle`` is emitted for
    it. While QUEUED it is in the queue, in preparation (its payload is not ready), or waits for its next try (a RETRY
    timer). While RUNNING it stands in the ``tasks`` of exactly one worker. A worker's list may also name tasks that
    were settled meanwhile (timed out, cancelled): the slot is taken until the worker answers or dies, because the code
    may still run.

    A worker with one slot runs the first task of its list; the others are *pipelined*: already sent, not started. They
    can be taken back at any time (``RetractTasks``): the backend makes sure that a task is either taken back or
    started, never both. So pipelining costs nobody anything: when the running task takes long, is interrupted, or its
    worker dies, the rest goes elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import events as on
from lifepool._core.admission import Admission
from lifepool._core.decision import DecisionContext
from lifepool._core.dispatcher import Dispatcher
from lifepool._core.first_runs import ProvisionalTasks
from lifepool._core.pool_states import PoolStates
from lifepool._core.recycler import Recycler
from lifepool._core.supervisor import Supervisor
from lifepool._core.task_handlers import TaskHandlers
from lifepool._core.task_table import TaskTable
from lifepool._core.timers import Timer
from lifepool._core.worker_handlers import WorkerHandlers
from lifepool.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from lifepool._core.commands import Command
    from lifepool._core.counters import RunTimes, Tally
    from lifepool._core.fleet import Fleet
    from lifepool._core.policy import Limits
    from lifepool._core.states import PoolState, TaskState
    from lifepool._core.task import Task
    from lifepool.errors import PoolError, WorkerStartError


class Scheduler:
    """Put the parts together, and give each event and each timer to the part that decides about it.

    Args:
        limits: The pool's settings.
        random: Returns a number in [0, 1), for jitter.

    Attributes:
        limits: The pool's settings.
        fleet: The workers.
        run_times: How long functions take.
        admission: Who would be refused.

    Invariants (checked from scratch by ``invariants.check``, in tests after every step):
        1. A task is in exactly one of: the queue, in preparation, waiting for a retry, one worker's list, settled.
        2. A worker has at most ``slots`` tasks, or with one slot and pipelining ``PIPELINE_MOST``.
        3. Every settled task produced exactly one ``Settle``.
    """

    def __init__(self, limits: Limits, *, random: Callable[[], float]) -> None:
        self.limits = limits
        self._decision = decision = DecisionContext(limits)
        self.run_times: RunTimes = decision.run_times
        self._remember = decision.history.events.append
        self._table = table = TaskTable(decision, random)
        self._supervisor = supervisor = Supervisor(decision)
        fleet = supervisor.fleet
        self.fleet: Fleet = fleet
        recycler = Recycler(decision, supervisor)
        self._pool = pool = PoolStates(decision, table, supervisor, recycler)
        admission = Admission(decision, table, supervisor)
        self.admission: Admission = admission
        provisional = ProvisionalTasks(decision, table, fleet, admission)
        self._dispatcher = dispatcher = Dispatcher(decision, table, supervisor)
        self._tasks = TaskHandlers(decision, table, supervisor, recycler, pool, admission, dispatcher, provisional)
        self._workers = WorkerHandlers(decision, table, supervisor, recycler, pool, self._tasks)
        self._handlers = self._event_handlers()
        self._on_timer = self._timer_handlers()

    def _event_handlers(self) -> dict[type, Callable[..., None]]:
        tasks, workers, pool = self._tasks, self._workers, self._pool
        return {
            on.TaskSubmitted: tasks.on_submitted,
            on.TaskAdopted: tasks.on_adopted,
            on.TaskPrepared: tasks.on_prepared,
            on.TaskReturned: tasks.on_returned,
            on.TasksRetracted: tasks.on_retracted,
            on.TaskCancelled: tasks.on_cancelled,
            on.WorkerReady: workers.on_ready,
            on.WorkerLoading: workers.on_loading,
            on.WorkerLoaded: workers.on_loaded,
            on.WorkerExited: workers.on_exited,
            on.TaskLost: workers.on_task_lost,
            on.TaskRefused: workers.on_task_refused,
            on.TaskHandedOver: workers.on_handed_over,
            on.TasksTaken: workers.on_taken,
            on.WorkerResized: workers.on_resized,
            on.StartRequested: pool.on_start_requested,
            on.RecycleRequested: pool.on_recycle_requested,
            on.DrainRequested: pool.on_drain_requested,
            on.CloseRequested: pool.on_close_requested,
            on.TimerFired: self._on_timer_fired,
        }

    def _timer_handlers(self) -> dict[Timer, Callable[[int], None]]:
        supervisor = self._supervisor
        return {
            Timer.TASK_DEADLINE: self._tasks.on_deadline,
            Timer.RETRY: self._tasks.on_retry,
            Timer.REVIEW: self._tasks.on_review,
            Timer.REBALANCE: lambda _: self._dispatcher.rebalance(),
            Timer.RESTART: self._workers.on_restart,
            Timer.KILL: supervisor.grace_over,
            Timer.CLAIM: lambda _: supervisor.look_for_stopped(),
            Timer.START: supervisor.overdue,
            Timer.IDLE: supervisor.idle_long_enough,
            Timer.DRAIN: self._pool.on_drain_overdue,
            Timer.SETTLE: self._pool.on_settle,
        }

    # -- deciding -------------------------------------------------------------------------------------------------

    def handle(self, event: on.Event, now: float) -> list[Command]:
        """Apply one event and return what to do next, in order.

        Args:
            event: What happened.
            now: Monotonic time in seconds, never earlier than before.

        Raises:
            InternalError: If the event is impossible in the current state.
        """
        decision = self._decision
        decision.now = now
        out: list[Command] = []
        decision.out = out
        self._remember((now, event))
        self._handlers[type(event)](event)
        if decision.armed is None or decision.timers.newest < decision.armed:
            decision.arm()
        return out

    def _on_timer_fired(self, _: on.TimerFired) -> None:
        decision = self._decision
        decision.armed = None  # so that the alarm is asked for anew, also for what is due already
        for _timer in range(self.limits.timers_at_once):
            key = decision.timers.pop_due(decision.now)
            if key is None:
                return
            self._on_timer[key[0]](key[1])

    def admit(self, timeout: float | None, fair_key: Hashable = None, name: str | None = None) -> PoolError | None:
        """Decide whether a task is admitted, and count a refusal; return the error, or None. See ``Admission``."""
        refusal = self.admission.refusal(timeout, fair_key, name)
        if refusal is not None and isinstance(refusal, QueueFull):
            self._decision.tally.refused += 1
        return refusal

    # -- looking --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PoolState:
        """Return the state of the pool."""
        return self._decision.pool_state

    @property
    def is_over(self) -> bool:
        """Whether the pool is closed, all tasks have their outcomes, and all workers are gone."""
        return self._pool.is_over

    @property
    def tally(self) -> Tally:
        """Return the counters of what happened so far."""
        return self._decision.tally

    @property
    def crash_loop(self) -> WorkerStartError | None:
        """Return why no worker comes up, while that is so."""
        return self._supervisor.crash_loop

    @property
    def running(self) -> int:
        """Return the number of tasks without an outcome that are with a worker."""
        return sum(number in self._table.tasks for worker in self.fleet for number in worker.tasks)

    @property
    def waiting(self) -> int:
        """Return the number of tasks without an outcome that are with no worker: queued, or between two tries."""
        return len(self._table.tasks) - self.running

    @property
    def next_since(self) -> float | None:
        """Return when the task that is next in the queue was submitted; None if none waits."""
        return self._table.queue.next_since()

    def task(self, task: int) -> Task | None:
        """Return a task that has no outcome yet, or None."""
        return self._table.tasks.get(task)

    def queued(self) -> list[Task]:
        """Return the tasks in the queue, in the order in which they came there."""
        return [self._table.tasks[number] for number in self._table.queue.entries]

    def unsent(self) -> list[Task]:
        """Return the tasks that no worker has: those in the queue, and those that wait for their next try."""
        return [task for task in self._table.tasks.values() if task.worker is None]

    def task_state(self, task: int) -> TaskState | None:
        """Return the state of a task that is not settled, or None."""
        known = self._table.tasks.get(task)
        return None if known is None else known.state

    def time_left(self, task: int, now: float) -> float | None:
        """Return the seconds until the deadline of a task; None if it has none, or an outcome already."""
        known = self._table.tasks.get(task)
        return None if known is None or known.timeout is None else known.submitted + known.timeout - now

    def attempts_of(self, task: int) -> int:
        """Return how often a task that is not settled was or is being tried."""
        return self._table.tasks[task].attempts + 1

    def history(self, *, task: int | None = None, worker: int | None = None) -> tuple[str, ...]:
        """Return the recent events that name this task or worker, oldest first, with their instants."""
        return self._decision.history.of(task=task, worker=worker)
