"""The last minutes of a pool, a point a second: pure arithmetic on statistics that others have taken.

Counters and histograms only ever grow, so what happened in a second is the difference of two samples. Rates and
percentiles of any window come from that, at no cost per task.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lifepool.instrumentation.metrics import minus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.statistics import HistogramSnapshot, PoolStatistics

#: Points kept: five minutes.
MAX_POINTS = 300
#: Samples kept to take differences from: the numbers on top of the page are those of the last minute.
WINDOW_POINTS = 60
#: Samples that the verdict is about: what was bad and is over should not be said for a minute.
RECENT_POINTS = 10
OUTCOMES = ("completed", "failed", "timed_out", "lost", "cancelled")
PERCENTILES = (0.5, 0.95, 0.99)

#: What a point holds, in this order. Outcomes and refusals are per second, times in seconds.
COLUMNS = (
    "t", *OUTCOMES, "refused", "queued", "running", "predicted_wait", "workers", "utilisation", "loop_lag",
    "wait_p50", "wait_p95", "wait_p99", "run_p50", "run_p95", "run_p99",
)  # fmt: skip

Point = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool at one moment.

    Attributes:
        t: Monotonic seconds.
        statistics: Its numbers.
        busy_s: Seconds for which tasks that run now have been running, added up over the workers.
        loop_lag_s: The latest that a timer of the event loop was since the sample before.
    """

    t: float
    statistics: PoolStatistics
    busy_s: float = 0.0
    loop_lag_s: float = 0.0


class History:
    """Points of the last minutes, numbered one after the other as long as the process lives."""

    def __init__(self) -> None:
        self.number: int = 0
        self._points: deque[Point] = deque(maxlen=MAX_POINTS)
        self._samples: deque[Sample] = deque(maxlen=WINDOW_POINTS + 1)

    def add(self, sample: Sample) -> None:
        """Add the sample of one more second."""
        before = self._samples[-1] if self._samples else None
        if before is not None and sample.statistics.submitted < before.statistics.submitted:
            self._samples.clear()  # the pool was started again, and counts anew
            before = None
        self.number += 1
        self._points.append(_point(before, sample))
        self._samples.append(sample)

    def since(self, number: int) -> list[Point]:
        """Return the points after the one of this number, as far as they are still there."""
        missing = min(max(0, self.number - number), len(self._points))
        return list(self._points)[len(self._points) - missing :]

    def window(self, points: int = WINDOW_POINTS) -> dict[str, object]:
        """Sum up the last minute, or fewer seconds, as one.

        Rates per second, percentiles in seconds, the part of the time in which functions ran (``utilisation``) and in
        which workers had a task at all (``occupied``), the worst lag of the event loop.
        """
        samples = list(self._samples)[-points - 1 :]
        if len(samples) < 2:
            return {"seconds": 0.0}
        first, last = samples[0], samples[-1]
        seconds = last.t - first.t
        return {
            "seconds": seconds,
            **dict(zip((*OUTCOMES, "refused"), _rates(first, last), strict=True)),
            "submitted": (last.statistics.submitted - first.statistics.submitted) / max(1e-6, seconds),
            "wait": _percentiles(first.statistics.wait, last.statistics.wait),
            "run": _percentiles(first.statistics.run, last.statistics.run),
            "shortest": last.statistics.run.bounds[0] if last.statistics.run.bounds else None,
            "utilisation": _mean_utilisation(samples),
            "occupied": _occupied(samples[1:]),
            "loop_lag": max(sample.loop_lag_s for sample in samples[1:]),
        }


def _point(before: Sample | None, sample: Sample) -> Point:
    now = sample.statistics
    rates: Sequence[float | None] = [None] * 6
    waits: Sequence[float | None] = [None] * 3
    runs: Sequence[float | None] = [None] * 3
    if before is not None:
        rates = _rates(before, sample)
        waits = _percentiles(before.statistics.wait, now.wait)
        runs = _percentiles(before.statistics.run, now.run)
    return (
        sample.t, *rates, now.queued, now.running, now.predicted_wait_s, sum(now.workers.values()),
        None if before is None else _utilisation(before, sample), sample.loop_lag_s, *waits, *runs,
    )  # fmt: skip


def _rates(before: Sample, after: Sample) -> list[float | None]:
    """Return each outcome, and the refusals, per second."""
    seconds = max(1e-6, after.t - before.t)
    names = (*OUTCOMES, "refused")
    return [(getattr(after.statistics, name) - getattr(before.statistics, name)) / seconds for name in names]


def _utilisation(before: Sample, after: Sample) -> float:
    """Return the part of the workers' time in which functions ran, those that still run included."""
    ran = after.statistics.run.sum + after.busy_s - before.statistics.run.sum - before.busy_s
    workers = sum(after.statistics.workers.values())
    offered = workers * (after.t - before.t)
    return min(1.0, max(0.0, ran / offered)) if offered > 0 else 0.0


def _mean_utilisation(samples: Sequence[Sample]) -> float:
    each = [_utilisation(before, after) for before, after in pairwise(samples)]
    return sum(each) / len(each)


def _occupied(samples: Sequence[Sample]) -> float:
    """Return the part of the workers that had a task, a sample a second: with short tasks more than functions ran."""
    workers = sum(sum(sample.statistics.workers.values()) for sample in samples)
    return sum(sample.statistics.workers.get("busy", 0) for sample in samples) / workers if workers else 0.0


def _percentiles(before: HistogramSnapshot, after: HistogramSnapshot) -> list[float | None]:
    between = minus(after, before)
    return [between.quantile(q) for q in PERCENTILES]
