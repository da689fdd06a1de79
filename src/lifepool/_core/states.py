"""States of tasks, workers and the pool, the only transitions that are legal, and the reasons why a worker went.

The three tables below say *which* state may follow *which*; the scheduler decides *when*. An illegal transition is a
bug of ours and leaves the state as it was.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from lifepool.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable


class TaskState(Enum):
    """The state of a task."""

    # Enum's own hash is a Python function, called for each look into a table; members are singletons, so that this
    # one is as good and costs nothing.
    __hash__: ClassVar[Callable[[object], int]] = object.__hash__

    QUEUED = "queued"  # waiting in the pool, or for its next try
    RUNNING = "running"  # given to a worker (perhaps pipelined behind another task)
    COMPLETED = "completed"  # the function returned
    FAILED = "failed"  # the function raised
    CANCELLED = "cancelled"  # the caller, or the pool's end, took it back
    TIMED_OUT = "timed_out"  # its timeout passed, in the queue or while running
    LOST = "lost"  # the worker that ran it died


class WorkerState(Enum):
    """The state of a worker."""

    __hash__: ClassVar[Callable[[object], int]] = object.__hash__

    STARTING = "starting"  # asked for, not ready yet
    READY = "ready"  # idle, can take a task
    BUSY = "busy"  # has at least one task
    DRAINING = "draining"  # takes nothing new, finishes what it has
    STOPPING = "stopping"  # asked to exit, or being killed
    DEAD = "dead"  # gone


class PoolState(Enum):
    """The state of the pool."""

    __hash__: ClassVar[Callable[[object], int]] = object.__hash__

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    CLOSED = "closed"

    @property
    def is_ending(self) -> bool:
        """Whether the pool takes no tasks any more."""
        return self in (PoolState.DRAINING, PoolState.CLOSED)


class ExitReason(StrEnum):
    """Why a worker went, as users see it in ``statistics().restarts`` and ``WorkerExit.reason``.

    ``exits.py`` decides it, and the command ``ReportWorkerExit`` carries it out. Texts for people are derived from it;
    nothing is ever derived from such a text.
    """

    # It ended by itself, or somebody else ended it.
    DIED = "died"
    OUT_OF_MEMORY = "out of memory"
    FAILED_TO_START = "failed to start"  # it ended before it was ready, or right after without having done anything
    # It was killed.
    INTERRUPTED = "interrupted"  # the backend has no softer way to break off a task
    INTERRUPT_IGNORED = "a task did not end when interrupted"
    STOP_IGNORED = "it did not stop when asked to"
    TASK_NOT_TAKEN = "it did not take the task that it was sent"
    UNKNOWN_TASK = "it answered a task that it did not have"
    NOT_READY_IN_TIME = "it was not ready within start_timeout"
    NOT_IMPORTED_IN_TIME = "it had not imported what the task needs within start_timeout"
    # It was let go.
    MAX_TASKS = "max_tasks_per_worker"
    MAX_MEMORY = "max_worker_memory"
    KEPT_VIEWS = "kept_views"
    IDLE = "idle_timeout"
    RECYCLED = "recycled"
    CLOSED = "closed"  # the pool has ended


_T, _W, _P = TaskState, WorkerState, PoolState

# The same members for those on the way of every task: CPython 3.11 takes 150 ns to find one in its class, and a task
# comes by a dozen. Compiled, a ``Final`` one is not even looked up.
TASK_QUEUED: Final = TaskState.QUEUED
TASK_RUNNING: Final = TaskState.RUNNING
TASK_COMPLETED: Final = TaskState.COMPLETED
TASK_FAILED: Final = TaskState.FAILED
WORKER_READY: Final = WorkerState.READY
WORKER_BUSY: Final = WorkerState.BUSY
POOL_RUNNING: Final = PoolState.RUNNING
POOL_DRAINING: Final = PoolState.DRAINING
POOL_CLOSED: Final = PoolState.CLOSED

SETTLED = frozenset({_T.COMPLETED, _T.FAILED, _T.CANCELLED, _T.TIMED_OUT, _T.LOST})

TASK_TRANSITIONS: Final[dict[TaskState, frozenset[TaskState]]] = {
    # QUEUED -> LOST: the pool can't start any worker, so nobody will ever run it.
    # QUEUED -> FAILED: it was accepted, and then its arguments could not be pickled.
    _T.QUEUED: frozenset({_T.RUNNING, _T.FAILED, _T.CANCELLED, _T.TIMED_OUT, _T.LOST}),
    # RUNNING -> QUEUED: pipelined and taken back, or lost and tried again.
    _T.RUNNING: frozenset({_T.QUEUED, *SETTLED}),
    **dict.fromkeys(SETTLED, frozenset()),
}

WORKER_TRANSITIONS: Final[dict[WorkerState, frozenset[WorkerState]]] = {
    _W.STARTING: frozenset({_W.READY, _W.STOPPING, _W.DEAD}),
    _W.READY: frozenset({_W.BUSY, _W.STOPPING, _W.DEAD}),
    _W.BUSY: frozenset({_W.READY, _W.DRAINING, _W.STOPPING, _W.DEAD}),
    _W.DRAINING: frozenset({_W.STOPPING, _W.DEAD}),
    _W.STOPPING: frozenset({_W.DEAD}),
    _W.DEAD: frozenset(),
}

POOL_TRANSITIONS: dict[PoolState, frozenset[PoolState]] = {
    _P.CREATED: frozenset({_P.STARTING, _P.CLOSED}),
    _P.STARTING: frozenset({_P.RUNNING, _P.CLOSED}),
    _P.RUNNING: frozenset({_P.DRAINING, _P.CLOSED}),
    _P.DRAINING: frozenset({_P.CLOSED}),
    _P.CLOSED: frozenset(),
}

_S = TypeVar("_S", bound=Enum)


def moved(table: dict[_S, frozenset[_S]], old: _S, new: _S, what: object) -> _S:
    """Return ``new`` if the table has ``old -> new``.

    Raises:
        InternalError: If it is not.
    """
    if new not in table[old]:
        raise InternalError(f"{what} can't go from {old.name} to {new.name}")
    return new
