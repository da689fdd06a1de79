"""Keep a log from being flooded by what happens again and again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Period:
    """A period of one key.

    Attributes:
        began: When.
        said: How often it was said in this period.
        left_out: How often it was not said since that was last asked for.
    """

    began: float
    said: int
    left_out: int = 0


class RateLimiter:
    """Let each thing be said a few times in a period, and count how often it was left out.

    Args:
        period: Seconds.
        burst: How often the same thing may be said in a period.
    """

    #: Things remembered; past it all are forgotten, which at worst says something early.
    MAX_KEYS = 256

    def __init__(self, period: float, burst: int = 1) -> None:
        self._period = period
        self._burst = burst
        self._periods: dict[object, _Period] = {}

    def may_say(self, key: object, now: float) -> bool:
        """Return whether to say this now; if not, it is counted.

        Args:
            key: What it is about.
            now: Monotonic seconds.
        """
        current = self._periods.get(key)
        if current is None:
            if len(self._periods) >= self.MAX_KEYS:
                self._periods.clear()
            self._periods[key] = _Period(now, 1)
            return True
        if now - current.began >= self._period:
            current.began, current.said = now, 0
        if current.said >= self._burst:
            current.left_out += 1
            return False
        current.said += 1
        return True

    def left_out(self, key: object) -> int:
        """Return how often it was not said since the last call, and count from zero again."""
        current = self._periods.get(key)
        if current is None:
            return 0
        count, current.left_out = current.left_out, 0
        return count

    def forbid(self, key: object, now: float) -> None:
        """Begin a period in which this is only counted."""
        self._periods[key] = _Period(now, self._burst)


def and_before(count: int) -> str:
    """Return the end of a message about something that was not said ``count`` times before."""
    return f" (and {count} times more since this was last said)" if count else ""
