"""States of tasks, workers and the pool, and the only transitions that are legal.

Everything about *which* state may follow *which* is in the three tables below; everything about *when* is in the
scheduler. An illegal transition is a bug of ours and leaves the state as it was.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from lifepool.errors import InternalError


class TaskState(Enum):
    """Where a task is."""

    # Enum's own hash is a Python function, called for each look into a table; members are singletons, so that this
    # one is as good and costs nothing.
    __hash__ = object.__hash__

    QUEUED = "queued"  # waiting in the pool, or for its next try
    RUNNING = "running"  # given to a worker (perhaps pipelined behind another task)
    COMPLETED = "completed"  # the function returned
    FAILED = "failed"  # the function raised
    CANCELLED = "cancelled"  # the caller, or the pool's end, took it back
    TIMED_OUT = "timed_out"  # its timeout passed, in the queue or while running
    LOST = "lost"  # the worker that ran it died


class WorkerState(Enum):
    """Where a worker is."""

    __hash__ = object.__hash__

    STARTING = "starting"  # asked for, not ready yet
    READY = "ready"  # idle, can take a task
    BUSY = "busy"  # has at least one task
    DRAINING = "draining"  # takes nothing new, finishes what it has
    STOPPING = "stopping"  # asked to exit, or being killed
    DEAD = "dead"  # gone


class PoolState(Enum):
    """Where the pool is."""

    __hash__ = object.__hash__

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    CLOSED = "closed"

    @property
    def is_ending(self) -> bool:
        """Whether it takes no tasks any more."""
        return self in (PoolState.DRAINING, PoolState.CLOSED)


_T, _W, _P = TaskState, WorkerState, PoolState

# The same members for those on the way of every task: CPython 3.11 takes 150 ns to find one in its class, and a task
# comes by a dozen.
TASK_QUEUED, TASK_RUNNING, TASK_COMPLETED, TASK_FAILED = _T.QUEUED, _T.RUNNING, _T.COMPLETED, _T.FAILED
WORKER_READY, WORKER_BUSY = _W.READY, _W.BUSY
POOL_RUNNING, POOL_DRAINING, POOL_CLOSED = _P.RUNNING, _P.DRAINING, _P.CLOSED

SETTLED = frozenset({_T.COMPLETED, _T.FAILED, _T.CANCELLED, _T.TIMED_OUT, _T.LOST})

TASK_TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    # QUEUED -> LOST: the pool can't start any worker, so nobody will ever run it.
    # QUEUED -> FAILED: it was accepted, and then its arguments could not be pickled.
    _T.QUEUED: frozenset({_T.RUNNING, _T.FAILED, _T.CANCELLED, _T.TIMED_OUT, _T.LOST}),
    # RUNNING -> QUEUED: pipelined and taken back, or lost and tried again.
    _T.RUNNING: frozenset({_T.QUEUED, *SETTLED}),
    **dict.fromkeys(SETTLED, frozenset()),
}

WORKER_TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
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
    """Return ``new`` if ``old -> new`` is in the table.

    Raises:
        InternalError: If it is not.
    """
    if new not in table[old]:
        raise InternalError(f"{what} can't go from {old.name} to {new.name}")
    return new
