"""Counters of what happens, and learned run times, at a cost of a few additions a task."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from lifepool._core.states import ExitReason, TaskState

#: Upper bounds of the histogram buckets in seconds: 1, 2.5, 5 in each decade from 50 us (half a round trip) to 500 s.
#: Fixed, so that a snapshot is cheap and snapshots of several processes can be added up.
BUCKETS_S: Final = (
    50e-6, 100e-6, 250e-6, 500e-6,
    1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3,
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0,
)  # fmt: skip


class Histogram:
    """Count durations by bucket; the last count is for everything above the last bound."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts: list[int] = [0] * (len(BUCKETS_S) + 1)
        self.sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


#: What the last run counts in the two means of a function's run time. Whether its tasks are short is to be known
#: within some ten runs. How long a queue of them will take is the sum of many: there the noise of ten runs would let
#: in far too many whenever a few in a row were short (a fifth of the goodput, if run times vary as much as their mean).
RECENT_WEIGHT: Final = 0.2
MEAN_WEIGHT: Final = 0.02


class RunTime:
    """Learn how long something takes: two exponentially weighted means, in seconds, that begin with the first run."""

    __slots__ = ("mean_s", "recent_s", "runs")

    def __init__(self, seconds: float) -> None:
        self.runs = 1
        self.recent_s = self.mean_s = seconds

    def learn(self, seconds: float) -> None:
        """Take one more run into account."""
        self.runs = runs = self.runs + 1
        self.recent_s += RECENT_WEIGHT * (seconds - self.recent_s)
        weight = MEAN_WEIGHT if runs * MEAN_WEIGHT > 1 else 1 / runs
        self.mean_s += weight * (seconds - self.mean_s)


class RunTimes:
    """Learn how long functions take, by name.

    The table is bounded: past ``MAX_NAMES`` names the table starts anew, which costs a few estimates and never memory.
    """

    MAX_NAMES: ClassVar[int] = 512

    __slots__ = ("_by_name", "_overall")

    def __init__(self) -> None:
        self._by_name: dict[str, RunTime] = {}
        self._overall: RunTime | None = None

    def learn(self, name: str, seconds: float) -> None:
        """Take one run into account."""
        known = self._by_name.get(name)
        if known is not None:
            known.learn(seconds)
        else:
            if len(self._by_name) >= self.MAX_NAMES:
                self._by_name.clear()
            self._by_name[name] = RunTime(seconds)
        if self._overall is None:
            self._overall = RunTime(seconds)
        else:
            self._overall.learn(seconds)

    def learn_at_least(self, name: str, seconds: float) -> None:
        """Take into account a run that was broken off after so many seconds."""
        known = self._by_name.get(name)
        if known is None or seconds > known.mean_s:
            self.learn(name, seconds)

    def estimate(self, name: str) -> float | None:
        """Return the seconds that a task of this name took lately, or None if nothing is known of it."""
        known = self._by_name.get(name)
        return None if known is None else known.recent_s

    def mean(self, name: str) -> float | None:
        """Return the seconds that tasks of this name take on average, or None if nothing is known of it."""
        known = self._by_name.get(name)
        return None if known is None else known.mean_s

    @property
    def overall_s(self) -> float | None:
        """Return the seconds that tasks of any name take on average, or None before the first."""
        return None if self._overall is None else self._overall.mean_s


class Tally:
    """Hold the scheduler's counters since the pool was made."""

    def __init__(self) -> None:
        self.submitted = 0
        self.refused = 0
        self.retried = 0
        self.outcomes: Counter[TaskState] = Counter()
        self.restarts: Counter[ExitReason] = Counter()  # workers replaced, by reason
        self.wait: Histogram = Histogram()  # from submission until a worker runs it
        self.run: Histogram = Histogram()  # in the worker
        self.requests: Counter[str] = Counter()  # of HTTP, by what load shedding decided
        self.worker_s: float = 0.0  # lifetimes, from ready to gone, of the workers that are gone
