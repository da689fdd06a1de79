"""How late the event loop is: a timeout can't be reported sooner than the loop looks at it."""

from __future__ import annotations

import asyncio
import time
from collections import deque

_TICK_S = 0.01
_KEPT = 12_000  # two minutes of ticks, longer than any task lasts


class LagMeter:
    """Sleep for a tick, again and again, and record how much longer that took.

    Attributes:
        worst_s: The largest lag so far.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._lags: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            lag = now - before - _TICK_S
            self.worst_s = max(self.worst_s, lag)
            self._lags.append((now, lag))

    def total_since(self, instant: float) -> float:
        """Return all lags at this instant or later together, in seconds; what goes on just now included."""
        total = max(0.0, time.monotonic() - self._lags[-1][0] - _TICK_S) if self._lags else 0.0
        for when, lag in reversed(self._lags):
            if when < instant:
                break
            total += lag
        return total
