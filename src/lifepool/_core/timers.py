"""All deadlines behind one alarm: a heap of (instant, key) in which setting and cancelling are cheap.

Cancelling does not search the heap; the entry stays and is passed over when its instant comes. So that a burst of
tasks with long timeouts, all done in a millisecond, leaves nothing behind, the heap is rebuilt as soon as most of it
is dead.
"""

from __future__ import annotations

import heapq
from enum import IntEnum
from math import inf
from typing import Final

#: Dead entries tolerated before a rebuild is thought of; below this a rebuild costs more than the memory.
_SLACK: Final = 64


class Timer(IntEnum):
    """What a timer is for; together with the number of the task or worker it is the key."""

    # Enum's own hash is a Python function, and keys are hashed several times a task.
    __hash__ = int.__hash__

    TASK_DEADLINE = 0  # a task's timeout
    RETRY = 1  # a task's next try
    KILL = 2  # an interrupted or stopping worker has had its grace
    START = 3  # a worker's start must have ended
    IDLE = 4  # a worker above min_workers has been idle long enough
    RESTART = 5  # the backoff after failed starts is over
    REBALANCE = 6  # look at tasks pipelined behind one that takes long
    DRAIN = 7  # the drain timeout
    CLAIM = 8  # look whether workers have taken what they were sent
    REVIEW = 9  # look whether the first tasks of a function can still be in time
    SETTLE = 10  # settle more of the tasks that nobody will run


Key = tuple[Timer, int]


class TimerQueue:
    """Hold instants by key; each key has at most one.

    Invariant: every live (when, key) in ``instants`` is in the heap; the heap may hold dead entries besides.
    """

    def __init__(self) -> None:
        #: What is set. Read directly where a call of ``__contains__`` would cost too much.
        self.instants: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        #: The earliest instant set since somebody put this back to infinity: only that can be a new earliest one.
        self.newest: float = inf

    def __len__(self) -> int:
        return len(self.instants)

    def __contains__(self, key: Key) -> bool:
        return key in self.instants

    def live(self) -> list[Key]:
        """Return all keys that are set, in no particular order."""
        return list(self.instants)

    def set(self, key: Key, when: float) -> None:
        """Set the instant of a key, instead of any instant set for it before."""
        if key in self.instants:
            self.cancel(key)
        self.instants[key] = when
        if when < self.newest:
            self.newest = when
        heapq.heappush(self._heap, (when, key))

    def cancel(self, key: Key) -> None:
        """Forget a key; do nothing if it is not set."""
        if self.instants.pop(key, None) is not None and len(self._heap) > 2 * len(self.instants) + _SLACK:
            self._heap = [(when, key) for key, when in self.instants.items()]
            heapq.heapify(self._heap)

    def earliest(self) -> float | None:
        """Return the instant of the next timer, or None."""
        heap = self._heap
        while heap:
            when, key = heap[0]
            if self.instants.get(key) == when:
                return when
            heapq.heappop(heap)
        return None

    def pop_due(self, now: float) -> Key | None:
        """Remove and return the next timer whose instant has come, or return None."""
        when = self.earliest()
        if when is None or when > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self.instants[key]
        return key
