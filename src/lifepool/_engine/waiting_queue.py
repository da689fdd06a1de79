"""Queue admitted calls of ``map`` and ``gather`` in front of the full task queue, until there is room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lifepool.errors import QueueFull

if TYPE_CHECKING:
    from lifepool._engine.deciding import HasAdmission
    from lifepool.errors import PoolError


class Waiter(asyncio.Future[None]):
    """A call that waits for room: done when there is room, which is reserved for it until it takes it or leaves.

    Attributes:
        has_room: Whether room is reserved for it.
    """

    has_room = False

    def abort(self, error: PoolError) -> None:
        """Raise ``error`` where it is awaited: the request it belongs to has ended."""
        if not self.done():
            self.set_exception(error)
            self.exception()  # whoever awaits it gets it; if nobody does, nothing is lost


class WaitingQueue:
    """Calls that wait, first come, first served; calls that come later could else take all room that there is.

    Each event that leaves room resumes one waiter. That one submits, and its submission is the event that resumes the
    next one.

    Args:
        scheduler: Says whether there is room.
        loop: The event loop.

    Attributes:
        waiting: The waiters, in the order in which they came.
    """

    def __init__(self, scheduler: HasAdmission, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduler = scheduler
        self._loop = loop
        self.waiting: dict[Waiter, None] = {}

    def is_needed(self, timeout: float | None, name: str) -> bool:
        """Return whether a task would be refused now, for want of room or time. Asking does not count as a refusal."""
        return isinstance(self._scheduler.admission.refusal(timeout, None, name), QueueFull)

    def join(self) -> Waiter:
        """Begin to wait for room. Call it only right after a refusal: the next event is the first that can end it."""
        waiter = Waiter(loop=self._loop)
        self.waiting[waiter] = None
        return waiter

    def take(self, waiter: Waiter) -> None:
        """Give the reserved room to its waiter, who submits before anybody else runs."""
        if waiter.has_room:
            waiter.has_room = False
            self._scheduler.admission.reserved -= 1

    def leave(self, waiter: Waiter) -> None:
        """Stop waiting. Room that was reserved goes to the next waiter."""
        self.waiting.pop(waiter, None)
        if waiter.has_room:
            self.take(waiter)
            self._loop.call_soon(self.serve)

    def serve(self) -> None:
        """Resume the first waiter if there is room, or all if the pool refuses everything: they find that out."""
        while self.waiting:
            refusal = self._scheduler.admission.refusal(None)
            if isinstance(refusal, QueueFull):
                return
            waiter = next(iter(self.waiting))
            del self.waiting[waiter]
            if waiter.done():
                continue  # aborted, and not gone yet
            waiter.set_result(None)
            if refusal is None:
                waiter.has_room = True
                self._scheduler.admission.reserved += 1
                return

    def dismiss(self) -> None:
        """Resume all waiters: the pool is broken, as they learn when they submit."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)
        self.waiting.clear()
