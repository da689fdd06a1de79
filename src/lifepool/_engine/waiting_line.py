"""The line in front of the full queue: calls of ``map`` and ``gather`` that were let in wait here for room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lifepool.errors import QueueFull

if TYPE_CHECKING:
    from lifepool._core.scheduler import Scheduler
    from lifepool.errors import PoolError


class Place(asyncio.Future[None]):
    """Somebody who waits in line; done when there is room, which is kept for them until they take it or leave."""

    is_kept = False

    def abort(self, error: PoolError) -> None:
        """Raise ``error`` where it is awaited: the request it belongs to has ended."""
        if not self.done():
            self.set_exception(error)
            self.exception()  # whoever awaits it gets it; if nobody does, nothing is lost


class Line:
    """First come, first served, and before those who come later: else they would take all room that there is.

    One is called for each event that leaves room. Who is called submits, and that is the event that calls the next.

    Args:
        scheduler: Says whether there is room.
        loop: The event loop.

    Attributes:
        waiting: Those who wait, in the order in which they came.
    """

    def __init__(self, scheduler: Scheduler, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduler = scheduler
        self._loop = loop
        self.waiting: dict[Place, None] = {}

    def is_needed(self, timeout: float | None, name: str) -> bool:
        """Tell whether a task would be refused now, for want of room or time. Asking does not count as a refusal."""
        return isinstance(self._scheduler.admission.refusal(timeout, None, name), QueueFull)

    def join(self) -> Place:
        """Wait for room. Only who was refused just now may: the next event is the first that can call them."""
        place = Place(loop=self._loop)
        self.waiting[place] = None
        return place

    def take(self, place: Place) -> None:
        """Give the kept room to its owner, who submits before anybody else runs."""
        if place.is_kept:
            place.is_kept = False
            self._scheduler.admission.reserved -= 1

    def leave(self, place: Place) -> None:
        """Stop waiting. Room that was kept goes to the next in line."""
        self.waiting.pop(place, None)
        if place.is_kept:
            self.take(place)
            self._loop.call_soon(self.serve)

    def serve(self) -> None:
        """Call the first if there is room; call all if the pool takes nothing any more, for they must hear of it."""
        while self.waiting:
            refusal = self._scheduler.admission.refusal(None)
            if isinstance(refusal, QueueFull):
                return
            place = next(iter(self.waiting))
            del self.waiting[place]
            if place.done():
                continue  # aborted, and not gone yet
            place.set_result(None)
            if refusal is None:
                place.is_kept = True
                self._scheduler.admission.reserved += 1
                return

    def dismiss(self) -> None:
        """Call all who wait: the pool is broken, which they find out when they submit."""
        for place in self.waiting:
            if not place.done():
                place.set_result(None)
        self.waiting.clear()
