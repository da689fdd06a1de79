"""Measure how late the event loop is, by a timer on it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lifepool._core.counters import BUCKETS_S, Histogram
from lifepool.instrumentation.stack import base_of_loop
from lifepool.statistics import HistogramSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two looks. Twenty a second cost a loop some 0.01 %, and find every stall that a person would notice.
TICK_S = 0.05
#: Seconds of which single measurements are kept.
KEPT_S = 60.0


@dataclass(frozen=True, slots=True)
class LagSummary:
    """The recent lag of the loop, in seconds.

    Attributes:
        p50: Half of the time it was no later than this.
        p99: In 99 of 100 cases.
        max: At worst.
    """

    p50: float
    p99: float
    max: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures as a plain dict, fit for JSON."""
        return asdict(self)


class LagMeter:
    """A repeated timer on the loop: it notes how much later than asked it is called.

    Idle loops show up to a millisecond, the precision of their timers.

    Args:
        interval: Seconds between two looks.
        kept: Seconds of which single measurements are kept, for ``recent``.
        on_tick: Called on the loop after each look, with the monotonic instant and the lag in seconds.

    Attributes:
        due: The monotonic instant at which the timer should run next.
        base: The identity of the frame that runs the loop; None before the timer has run.
    """

    def __init__(
        self,
        interval: float = TICK_S,
        *,
        kept: float = KEPT_S,
        on_tick: Callable[[float, float], object] | None = None,
    ) -> None:
        self.due: float = float("inf")
        self.base: int | None = None
        self._interval = interval
        self._all = Histogram()
        self._recent: deque[tuple[float, float]] = deque(maxlen=round(kept / interval))
        self._on_tick = on_tick
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start measuring the running event loop."""
        self.stop()
        self.base = None
        self._loop = asyncio.get_running_loop()
        self._plan()

    def stop(self) -> None:
        """Stop measuring; do nothing if it was not started, or its loop is closed."""
        self.due = float("inf")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def snapshot(self) -> HistogramSnapshot:
        """Return all that was measured since the meter was made."""
        return HistogramSnapshot(BUCKETS_S, tuple(self._all.counts), self._all.sum_s)

    def recent(self, seconds: float = 10.0) -> LagSummary:
        """Return how late the loop was in the last seconds, up to ``KEPT_S``, this very moment included."""
        now = time.monotonic()
        lags = sorted(lag for instant, lag in self._recent if now - instant <= seconds)
        lags.append(max(0.0, now - self.due, *lags[-1:]))
        return LagSummary(lags[len(lags) // 2], lags[min(len(lags) - 1, len(lags) * 99 // 100)], lags[-1])

    def _plan(self) -> None:
        assert self._loop is not None  # noqa: S101 - start has set it
        self.due = time.monotonic() + self._interval
        self._timer = self._loop.call_later(self._interval, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        lag = max(0.0, now - self.due)
        self._all.observe(lag)
        self._recent.append((now, lag))
        self.base = base_of_loop(sys._getframe(1))
        self._plan()
        if self._on_tick is not None:
            self._on_tick(now, lag)
