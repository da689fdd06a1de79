"""Hold the one timer of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Alarm:
    """Call back at an instant of the engine's clock; setting it anew replaces the instant before.

    Args:
        loop: The event loop.
        clock: Monotonic seconds.
        ring: What to call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], ring: Callable[[], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0

    def set(self, when: float) -> None:
        """Call back at this instant."""
        self.cancel()
        self._when = when
        self._timer = self._loop.call_later(when - self._clock(), self._ring)

    def is_due(self) -> bool:
        """Return whether the instant has come, and the event loop has not called back yet."""
        return self._timer is not None and self._when <= self._clock()

    def cancel(self) -> None:
        """Do not call back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
