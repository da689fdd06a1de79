"""Counting what happens, at a cost of a few additions a task."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool._core.states import TaskState

#: Upper bounds of the histogram buckets in seconds: 1, 2.5, 5 in each decade from 50 us (half a round trip) to 500 s.
#: Fixed, so that a snapshot is cheap and snapshots of several processes can be added up.
BUCKETS_S = (
    50e-6, 100e-6, 250e-6, 500e-6,
    1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3,
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0,
)  # fmt: skip


class Histogram:
    """Counts by bucket; the last count is for everything above the last bound."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


class RunTimes:
    """How long functions take, learned by name: an exponentially weighted mean that forgets after some ten tasks.

    Bounded: past ``MAX_NAMES`` names the table starts anew, which costs a few estimates and never memory.
    """

    MAX_NAMES = 512
    WEIGHT = 0.2

    __slots__ = ("_by_name", "overall_s")

    def __init__(self) -> None:
        self._by_name: dict[str, float] = {}
        self.overall_s: float | None = None

    def learn(self, name: str, seconds: float) -> None:
        """Take one run into account."""
        known = self._by_name.get(name)
        if known is None:
            if len(self._by_name) >= self.MAX_NAMES:
                self._by_name.clear()
            self._by_name[name] = seconds
        else:
            self._by_name[name] = known + self.WEIGHT * (seconds - known)
        overall = self.overall_s
        self.overall_s = seconds if overall is None else overall + self.WEIGHT * (seconds - overall)

    def estimate(self, name: str) -> float | None:
        """Seconds that a task of this name will take, or None if nothing is known of it."""
        return self._by_name.get(name)


class Tally:
    """The scheduler's counters since the pool was made."""

    def __init__(self) -> None:
        self.submitted = 0
        self.refused = 0
        self.retried = 0
        self.outcomes: Counter[TaskState] = Counter()
        self.restarts: Counter[str] = Counter()  # workers replaced, by reason
        self.wait = Histogram()  # from submission until a worker runs it
        self.run = Histogram()  # in the worker
        self.worker_s = 0.0  # lifetimes, from ready to gone, of the workers that are gone
