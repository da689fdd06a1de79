"""So that a log is not flooded by what happens again and again."""

from __future__ import annotations


class Limiter:
    """Lets each thing be said once in a while.

    Args:
        period: Seconds for which the same thing is not said again.
    """

    #: Things remembered; past it all are forgotten, which at worst says something early.
    MAX_KEYS = 256

    def __init__(self, period: float) -> None:
        self._period = period
        self._said: dict[object, float] = {}
        self._left_out: dict[object, int] = {}

    def may_say(self, key: object, now: float) -> bool:
        """Whether to say this now; if not, it is counted.

        Args:
            key: What it is about.
            now: Monotonic seconds.
        """
        said = self._said.get(key)
        if said is not None and now - said < self._period:
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return False
        if len(self._said) >= self.MAX_KEYS:
            self._said.clear()
            self._left_out.clear()
        self._said[key] = now
        return True

    def left_out(self, key: object) -> int:
        """How often it was not said since the last time; from zero again after this."""
        return self._left_out.pop(key, 0)


def and_before(count: int) -> str:
    """The end of a message about something that was not said ``count`` times before."""
    return f" (and {count} times more since this was last said)" if count else ""
