"""Requests begin a few in each turn of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds of a turn of the loop that requests may take to begin; those that have not begun by then wait for the next.
TURN_S = 5e-3
#: So many begin in each turn, however long they take: a framework takes half a millisecond and more to begin one.
LEAST_BEGUN = 4
#: And no more than so many, however quickly they begin: the next ones may take longer.
MOST_BEGUN = 64
#: What the last turn counts in the length that is expected of the next ones.
_TURN_WEIGHT = 0.25


class Turns:
    """Let a few requests begin in each turn of the loop.

    Those that wait begin in the order in which they came; but one that comes while there are places overtakes those
    that have been given theirs in the same turn. The loop is never idle while a request waits.

    A burst of two hundred requests that are admitted together would else be one turn of a tenth of a second and more.
    What needs some turns, as a probe on a new connection needs five, would wait for several of these.

    How many is learned as TCP learns how much to send: twice as many in the next turn while they take little time to
    begin. Those that have not begun when ``TURN_S`` have passed give their places back, and in the next turn there are
    as many as have begun in this one: one request may take a hundred times as long as another. What else is done in the
    turn does not count. What was learned is forgotten when nobody waits: the next burst may be of other requests.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places = self._left = LEAST_BEGUN  # of a turn, and of this one
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()  # and since when
        self._given_back: list[tuple[asyncio.Future[None], float]] = []  # in this turn: they come before those
        self._count = 0  # of those, and of those that have a place and have not gone on yet
        self._is_planned = False  # that the next turn is noticed
        self._turn_began = 0.0
        self._turn_s = 0.0  # how long a turn takes, learned
        self._grows = True  # as far as is known, their number in the next turn
        self._are_all_used = False  # by those that waited
        self._first_began = 0.0  # the instant before the first of those began
        self._begun = 0  # how many of those have begun in this turn
        self._first_took = 0.0  # the instant at which the first one took a place in this turn without waiting
        self._taken = 0  # how many did
        self.number: int = 0  # of the turn, counted while turns are noticed
        self._context = Context()  # a request's is not kept alive

    def __len__(self) -> int:
        """Return how many wait, or are about to go on."""
        return self._count

    def wait_s(self, more: int) -> float:
        """Predict the seconds for which one that comes now will wait.

        While they take little time to begin, that is in twice as large parts as in this turn. If turns take longer than
        expected, those that wait have waited for longer, and this counts.

        Args:
            more: How many come before it, besides those that wait.
        """
        predicted = (self._count + more) // (self._places * (2 if self._grows else 1)) * self._turn_s
        first = next(iter(self._given_back or self._waiting), None)
        return max(predicted, self._clock() - first[1]) if first else predicted

    def take(self) -> bool:
        """Take a place in this turn. Return False if there is none: then ``wait`` for one."""
        self._plan()
        if not self._left or self._waiting or self._given_back:
            return False
        now = self._clock()
        if not self._taken:
            self._first_took = now
        elif self._taken >= LEAST_BEGUN and now - self._first_took >= TURN_S:
            return False
        self._taken += 1
        self._left -= 1
        return True

    def this_turn(self) -> int:
        """Return a number that is another one in the next turn."""
        self._plan()
        return self.number

    async def wait(self) -> None:
        """Wait for a place in a later turn, and until the time of that turn is enough."""
        since = self._clock()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, since))
        self._plan()
        self._count += 1
        try:
            await turn
            while self._begun >= LEAST_BEGUN and self._clock() - self._first_began >= TURN_S:
                turn = asyncio.get_running_loop().create_future()
                self._given_back.append((turn, since))
                await turn
            self._begun += 1
        finally:
            self._count -= 1

    def _plan(self) -> None:
        """Have the next turn noticed."""
        if not self._is_planned:
            self._is_planned = True
            self._turn_began = self._clock()
            asyncio.get_running_loop().call_soon(self._next, context=self._context)

    def _next(self) -> None:
        now = self._clock()
        # A single turn, such as one in which something blocked the loop, counts for no more than a step.
        took = min(now - self._turn_began, 2 * self._turn_s + TURN_S)
        self._turn_s += _TURN_WEIGHT * (took - self._turn_s)
        if self._given_back or self._are_all_used:
            self._learn(now - self._first_began)
        self._waiting.extendleft(reversed(self._given_back))
        self._given_back.clear()
        was_used, self._left, self._taken = self._left < self._places, self._places, 0
        self.number += 1
        if self._waiting:
            # The loop calls these one after another, and nothing between them: this, those that begin, and `_next`.
            asyncio.get_running_loop().call_soon(self._begin, context=self._context)
        while self._left and self._waiting:
            turn, _ = self._waiting.popleft()
            if not turn.done():  # or whoever waited was cancelled
                turn.set_result(None)
                self._left -= 1
        self._are_all_used = not self._left
        self._is_planned = False
        if self._left < self._places or (was_used and self._places > LEAST_BEGUN):
            self._plan()
        else:
            self._places = self._left = LEAST_BEGUN
            self._turn_s, self._grows = 0.0, True

    def _begin(self) -> None:
        self._first_began, self._begun = self._clock(), 0

    def _learn(self, took: float) -> None:
        """Adapt the number of places to how many have begun, and to the seconds that they took."""
        self._grows = not self._given_back and took < TURN_S / 2 and self._places < MOST_BEGUN
        if self._given_back:
            self._places = max(LEAST_BEGUN, self._begun)
        elif self._grows:
            self._places = min(MOST_BEGUN, 2 * self._places)
