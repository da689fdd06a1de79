"""A clock that tests can move forward."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds within which a running event loop takes note that the time has changed.
_PATIENCE_S = 10.0


class FakeClock:
    """Monotonic seconds that go on as usual and can be moved forward: what waits for that time is due at once.

    It goes on by itself so that nothing which has a time limit can wait for ever because a test forgot to move it.
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._listeners: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return time.monotonic() + self._offset

    def advance(self, seconds: float) -> None:
        """Move it forward. Whatever is due then has happened when this returns. May be called from any thread.

        Args:
            seconds: How far; at least 0.

        Raises:
            ValueError: If it is less than 0.
            TimeoutError: If the pool's event loop is blocked, and so takes no note of it.
        """
        if not seconds >= 0:
            raise ValueError(f"advance({seconds!r}): expected a number of seconds >= 0; time does not run backwards")
        self._offset += seconds
        for loop, time_has_changed in tuple(self._listeners):
            _call_on(loop, time_has_changed)

    def attach(self, loop: asyncio.AbstractEventLoop, time_has_changed: Callable[[], object]) -> None:
        """Call back on this event loop each time the clock was moved; until ``detach``."""
        self._listeners.append((loop, time_has_changed))

    def detach(self, time_has_changed: Callable[[], object]) -> None:
        """Stop calling back."""
        self._listeners[:] = [each for each in self._listeners if each[1] != time_has_changed]


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call back on the event loop's thread, and wait until that is done."""
    try:
        is_here = asyncio.get_running_loop() is loop
    except RuntimeError:
        is_here = False
    if is_here:
        callback()
    elif loop.is_running():
        done: Future[object] = Future()
        loop.call_soon_threadsafe(lambda: done.set_result(callback()))
        done.result(_PATIENCE_S)
