"""Watch a pool with hooks. Metrics, traces, logs and the live page are hooks, and yours may be one as well.

::

    class SlowTasks(Hook):
        def task_settled(self, task: TaskRecord) -> None:
            if task.run_s and task.run_s > 1.0:
                print(f"{task.name} took {task.run_s:.1f} s")

    pool.add_hook(SlowTasks())

Rules
    1. A hook is called on the event loop's thread and must return quickly; it may not await.
    2. A hook can't hurt a task: one that raises, whatever that is, is logged once and not called again (as in trio's
       instruments). Its ``pool_closed`` is then called once, if its ``pool_started`` was.
    3. Only the methods that a hook overrides are called. A pool without hooks pays one truth test.
    4. Records belong to the pool: read them, keep what you need, change nothing but ``notes``.
    5. A hook watches one pool, unless it says otherwise: a record does not say which pool its task belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lifepool._transfer.context import PropagatedContext

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context

    from lifepool._core.states import PoolState
    from lifepool.config import PoolConfig
    from lifepool.errors import PoolError
    from lifepool.statistics import PoolStatistics, Readiness, WorkerSnapshot


class WatchedPool(Protocol):
    """A pool, as its hooks see it: what they may read and ask of it."""

    @property
    def config(self) -> PoolConfig:
        """Return its settings."""

    @property
    def state(self) -> PoolState:
        """Return where it is in its life."""

    @property
    def max_workers(self) -> int:
        """Return how many workers there may be."""

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """Return the hooks that watch it."""

    def add_hook(self, hook: Hook) -> None:
        """Have one more hook watch it."""

    def remove_hook(self, hook: Hook) -> None:
        """Have a hook watch it no more."""

    def statistics(self) -> PoolStatistics:
        """Return its numbers as they are now."""

    def workers(self) -> tuple[WorkerSnapshot, ...]:
        """Return what each worker does, with its process and its memory."""

    def task_record(self, task: int) -> TaskRecord | None:
        """Return the record of a task that has no outcome yet, or None."""

    def task_records(self, most: int = 100) -> list[TaskRecord]:
        """Return the records of the oldest tasks that have no outcome yet."""

    def readiness(self) -> Readiness:
        """Return whether the server should be sent requests."""

    def tell_hooks(self) -> None:
        """Call hooks now with what they are otherwise called with in batches."""


class _Notes:
    __slots__ = ("_notes",)
    _notes: dict[str, Any]

    @property
    def notes(self) -> dict[str, Any]:
        """Return a dict for hooks; it is made at the first access."""
        try:
            return self._notes
        except AttributeError:
            self._notes = {}
            return self._notes


@dataclass(slots=True, eq=False)
class TaskRecord(_Notes):
    """One task on its way. Instants are those of ``time.monotonic()``, durations are in seconds.

    Attributes:
        id: The task's number, unique within the pool; 0 if it was refused.
        name: The function's qualified name.
        submitted: When it was submitted.
        timeout: Seconds that it may take, waiting included, or None.
        priority: As given.
        fair_key: As given.
        attempts: How often it was run; 0 while it waits for the first time. What was taken back unstarted and sent
            elsewhere counts once.
        worker: The worker that has it or had it last; a negative number is the cluster of a pool with two backends.
        sent: When it was last given to a worker.
        wait_s: From submission until the function ran in its last attempt, as far as is known; set when it is settled.
        run_s: How long the function ran in its last attempt, measured in the worker; None if no answer came.
        finished: When it was settled.
        outcome: ``completed``, ``failed``, ``cancelled``, ``timed_out`` or ``lost``, once it is settled.
        error: What the caller gets instead of an answer.
        bytes_sent: Pickled arguments, in all attempts.
        bytes_received: Pickled answers.
        context: The context variables as they were when it was submitted: run in it what is done on its behalf.
        notes: For hooks: what they want to remember of this task, under names of their own.
    """

    # Slots: CPython 3.11 is five times as slow at storing an attribute that has its default in the class.
    name: str
    submitted: float
    timeout: float | None = None
    priority: int = 0
    fair_key: str | None = None
    id: int = 0
    attempts: int = 0
    worker: int | None = None
    sent: float | None = None
    wait_s: float | None = None
    run_s: float | None = None
    finished: float | None = None
    outcome: str | None = None
    error: BaseException | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    context: Context | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerExit:
    """The end of a worker.

    Attributes:
        worker: Its number.
        reason: Why, as counted in ``statistics().restarts``: ``died``, ``out of memory``, ``failed to start``,
            ``max_tasks_per_worker``, ``max_worker_memory``, ``idle_timeout``, ``closed``, ...
        exitcode: Its exit code, if it exited.
        signal: The signal that ended it, if one did.
        completed: Tasks that it answered.
        start_error: The worker's own traceback, if it could not start.
    """

    worker: int
    reason: str
    exitcode: int | None
    signal: int | None
    completed: int
    start_error: str | None


class Hook:
    """Watch a pool: override the methods that you want to be called. See the module for the rules."""

    #: For ``worker_logged``: below this level workers send nothing; None: the level of the server's root logger.
    log_level: int | None = None
    #: For ``worker_logged``: records that each worker may send in a second.
    logs_per_second: float = 1000

    def pool_started(self, pool: WatchedPool) -> None:
        """Called when the pool is up; also called when the hook is added to a pool that runs."""

    def pool_closed(self, pool: WatchedPool) -> None:
        """Called when the pool has ended: all tasks are settled, all workers gone.

        Also called when the hook is removed from a pool that runs, or disabled because it raised: either way it hears
        nothing more, and must give back what it took in ``pool_started``.
        """

    def task_submitted(self, task: TaskRecord) -> None:
        """Called when a task was admitted."""

    def task_refused(self, task: TaskRecord, error: PoolError) -> None:
        """Called when a task was refused: the queue is full, the pool is closed, or it can't be pickled."""

    def task_called(self, task: TaskRecord, args: tuple[Any, ...]) -> None:
        """Called when a task is about to be pickled, with these arguments. Don't keep them: it costs memory."""

    def task_sent(self, task: TaskRecord) -> None:
        """Called when a task was given to a worker; it may still have to wait there for a moment."""

    def task_settled(self, task: TaskRecord) -> None:
        """Called when a task has its outcome."""

    def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
        """Called in batches: these tasks have their outcomes, in this order.

        This happens a twentieth of a second after the first of them was settled, or when 256 have been, and before the
        pool ends. For hooks that do little for each of many tasks: it costs half of a call for each. Override this or
        ``task_settled``, which is called before whoever awaits the task goes on.
        """

    def worker_ready(self, worker: int) -> None:
        """Called when a worker can take tasks."""

    def worker_exited(self, exit: WorkerExit) -> None:
        """Called when a worker is gone."""

    def worker_logged(self, log: dict[str, Any]) -> None:
        """Called when a worker logged something. If a hook overrides this, workers send their log records."""

    def propagate_context(self, task: TaskRecord) -> PropagatedContext | None:
        """Return what is to be propagated with this task; called before it is pickled."""
        return None


__all__ = ["Hook", "PropagatedContext", "TaskRecord", "WatchedPool", "WorkerExit"]
