"""Requests begin a few in each turn of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that a turn of the loop in which requests begin may take; then fewer begin in the next one.
TURN_S = 5e-3
#: So many begin in each turn, however long it is: a framework takes half a millisecond and more to begin one.
LEAST_BEGUN = 4
#: And no more than so many, however short the turns are: the next requests may take longer to begin.
MOST_BEGUN = 64


class Turns:
    """Let a few requests begin in each turn of the loop, in the order in which they came.

    A burst of two hundred requests that are admitted together would else be one turn of a tenth of a second and more.
    What needs some turns, as a probe on a new connection needs five, would wait for several of these. Nothing is lost
    by it: the loop is never idle while a request waits for its turn.

    How many is learned as TCP learns how much to send: twice as many in the next turn while turns are short, half as
    many once they are long.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places = self._left = LEAST_BEGUN  # of a turn, and of this one
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._began = 0.0  # this turn
        self._is_planned = False  # that the next turn is noticed
        self._context = Context()  # a request's is not kept alive

    def __len__(self) -> int:
        """Return how many wait for their turn."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a place in this turn. Return False if there is none: then ``wait`` for one."""
        self._plan()
        if not self._left or self._waiting:
            return False
        self._left -= 1
        return True

    async def wait(self) -> None:
        """Wait for a place in a later turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._plan()
        await turn

    def _plan(self) -> None:
        """Have the next turn noticed."""
        if not self._is_planned:
            self._is_planned = True
            self._began = self._clock()
            asyncio.get_running_loop().call_soon(self._next, context=self._context)

    def _next(self) -> None:
        if not self._left:
            self._learn(self._clock() - self._began)
        self._left = self._places
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # or whoever waited was cancelled
                turn.set_result(None)
                self._left -= 1
        self._is_planned = False
        if self._left < self._places:
            self._plan()

    def _learn(self, took: float) -> None:
        """Adapt the number of places to the seconds that a turn has taken in which all were used."""
        if took > TURN_S:
            self._places = max(LEAST_BEGUN, self._places // 2)
        elif took < TURN_S / 2:
            self._places = min(MOST_BEGUN, self._places * 2)
