"""Report to a hook how far a map is: not too often, never too late, and unharmed by what the hook raises."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sized
from typing import TYPE_CHECKING

from lifepool._usercode.interrupts import passed_on
from lifepool.progress import MapProgress

if TYPE_CHECKING:
    import asyncio

    from lifepool._transfer.grouped import GroupResult
    from lifepool.progress import ProgressHook

logger = logging.getLogger("lifepool")

#: Reports to a hook in a second at most: people see no more, and a bar costs a millisecond to draw.
REPORTS_PER_S = 10


class Meter:
    """Count what is done of one map, and report it.

    Args:
        hook: Is called with each report.
        total: Items there are, or None.
        loop: The event loop that the map runs on.
    """

    def __init__(self, hook: ProgressHook, total: int | None, loop: asyncio.AbstractEventLoop) -> None:
        self._hook = hook
        self._total = total
        self._loop = loop
        self._done = 0
        self._failed = 0
        self._uncounted: dict[asyncio.Future[GroupResult], int] = {}
        self._began = loop.time()
        self._next = self._began
        self._timer: asyncio.TimerHandle | None = None
        self._has_raised = False
        self._report()

    def watch(self, handle: asyncio.Future[GroupResult], size: int) -> None:
        """Count a chunk of so many items when it is done."""
        self._uncounted[handle] = size
        handle.add_done_callback(self._chunk_done)

    def finish(self) -> None:
        """Report for the last time: the map has ended, in whichever way."""
        for handle in [handle for handle in self._uncounted if handle.done()]:
            self._count(handle)
        self._uncounted.clear()
        self._report(finished=True)

    def _chunk_done(self, handle: asyncio.Future[GroupResult]) -> None:
        if handle not in self._uncounted:
            return  # the map has ended
        self._count(handle)
        if self._loop.time() >= self._next:
            self._report()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._next, self._report)

    def _count(self, handle: asyncio.Future[GroupResult]) -> None:
        size = self._uncounted.pop(handle)
        if handle.cancelled():
            return
        if handle.exception() is not None:
            self._done += size
            self._failed += size
        else:
            chunk = handle.result()
            self._done += len(chunk.values)
            self._failed += len(chunk.errors)

    def _report(self, *, finished: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        self._next = now + 1 / REPORTS_PER_S
        elapsed = now - self._began
        rate = self._done / elapsed if elapsed > 0 else 0.0
        try:
            self._hook(MapProgress(self._done, self._total, self._failed, elapsed, rate, finished))
        except BaseException as error:
            if not passed_on(error, self._loop) and not self._has_raised:
                self._has_raised = True
                logger.exception("on_progress raised; the map goes on, and this is not logged again")


def make_meter(hook: ProgressHook | None, items: object, loop: asyncio.AbstractEventLoop) -> Meter | None:
    """Return a meter, or None if there is no hook."""
    if hook is None:
        return None
    total = None
    if isinstance(items, Sized):
        with contextlib.suppress(OverflowError):  # a range may stand for more than ``len`` can say
            total = len(items)
    return Meter(hook, total, loop)
