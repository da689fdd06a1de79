"""Keep the event loop awake while a single task is out, if its answer is likely to come at once.

A loop with nothing to do sleeps, and on many machines waking it takes longer than a small task. With a callback planned
it looks for what has come, and goes on; whatever else it has to do is done meanwhile. With more than one task out there
is always something to do or to come, and the CPU is better left to the workers.
"""

from __future__ import annotations

import os
from contextvars import Context
from typing import TYPE_CHECKING

from lifepool._core.halt_polling import HaltPolling

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class AnswerPolling:
    """Poll for the answer to the only task that is out, for as long as that has paid lately.

    Args:
        loop: The event loop that answers arrive on.
        clock: Monotonic seconds.

    Attributes:
        waits: Whether an answer is waited for.
    """

    __slots__ = ("_call_soon", "_clock", "_context", "_learned", "_ticks", "_until", "waits")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.waits = False
        self._call_soon = loop.call_soon
        self._clock = clock
        self._context = Context()  # a caller's is not kept alive
        self._learned = HaltPolling(clock())
        self._until = 0.0
        self._ticks = False

    def begin(self) -> None:
        """Begin to wait: a task was sent, and it is the only one."""
        now = self._clock()
        poll_s = self._learned.begin(now)
        self.waits = True
        self._until = now + poll_s
        if poll_s and not self._ticks:
            self._ticks = True
            self._call_soon(self._tick, context=self._context)

    def end(self) -> None:
        """End the wait: an answer is here."""
        self.waits = False
        self._learned.end(self._clock())

    def _tick(self) -> None:
        self._ticks = False
        if not self.waits:
            return
        now = self._clock()
        if now >= self._until:
            self._learned.gave_up(now)
            return
        os.sched_yield()  # the worker may be waiting for this very CPU
        self._ticks = True
        self._call_soon(self._tick, context=self._context)
