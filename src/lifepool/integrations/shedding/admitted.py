"""Requests that were admitted: which of them may begin, which still arrive, and which wait in the pool."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool._core.states import TaskState
from lifepool._engine.handle import TaskHandle
from lifepool.errors import QueueFull
from lifepool.integrations.request_scope import RequestScope
from lifepool.integrations.shedding.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._engine.scope import Endable
    from lifepool.integrations.asgi import Message, Receive, Scope

#: By how much each request changes what share of them is expected to submit tasks.
_SHARE_WEIGHT = 0.1
#: The least that is expected of those that have not begun: a burst of another kind than the last requests must not be
#: admitted as a whole. Who is refused comes again; who is admitted and has to wait too long is dropped.
_LEAST_SHARE = 0.5
#: Seconds for which a request counts as arriving. One that sends its body for longer is no load until it is there.
ARRIVING_S = 0.1


class Recent:
    """Count requests that do something, each until it has done it or ``ARRIVING_S`` have passed."""

    def __init__(self) -> None:
        self.count: int = 0
        self._entries: deque[Arrival] = deque()  # in their order; those that were forgotten, too

    def add(self, now: float) -> Arrival:
        """Count one from now on."""
        self.count += 1
        entry = Arrival(self, now)
        self._entries.append(entry)
        return entry

    def forget_late(self, now: float) -> None:
        """Forget those of long ago."""
        entries = self._entries
        while entries and (not entries[0].counts or now - entries[0].since > ARRIVING_S):
            entries.popleft().forget()


@dataclass(slots=True)
class Arrival:
    """A request that does something, such as sending its body.

    Attributes:
        of: Those that do the same.
        since: The monotonic instant.
        counts: Whether it is counted there.
    """

    of: Recent
    since: float
    counts: bool = True

    def forget(self) -> None:
        """Do not count it any more."""
        self.of.count -= self.counts
        self.counts = False


class AdmittedRequest(RequestScope):
    """The tasks of a request that was admitted.

    Args:
        scope: The request's ASGI scope.
        receive: The server's.
        requests: All of them.
        arrival: What was noted when it was admitted.

    Attributes:
        has_begun: Whether its handler was called.
        tasks: How many it has submitted.
    """

    __slots__ = ("_requests", "arrival", "has_begun", "tasks")

    def __init__(self, scope: Scope, receive: Receive, requests: AdmittedRequests, arrival: Arrival) -> None:
        super().__init__(scope, receive)
        self.arrival: Arrival = arrival
        self._requests = requests
        self.has_begun: bool = False
        self.tasks: int = 0

    def add(self, handle: Endable) -> None:
        """Enter a task."""
        self.tasks += 1
        if self.tasks == 1:
            self._requests.submitted(self)
        super().add(handle)

    async def receive(self) -> Message:
        """Return the next message, for the handler. The end of a body that was waited for waits for a turn as well.

        Of a large request, what is done with its body is what keeps the loop busy, not its beginning.

        Cancellation:
            What has come is returned to who asks next.
        """
        turn = self._requests.this_turn()
        message = await super().receive()
        if message["type"] == "http.request" and not message.get("more_body", False) and not self.closed:
            try:
                await self._requests.turn_again(self, turn)
            except asyncio.CancelledError:
                self._arrived = self._arrived or deque()
                self._arrived.appendleft(message)
                raise
        return message

    def finish(self) -> None:
        """Forget the request: it was answered, or its handler has failed."""
        self._requests.end(self)

    def waits(self) -> bool:
        """Tell whether all that was ever submitted still waits: nothing of it was begun."""
        handles = self._handles
        return len(handles) == self.tasks and all(
            isinstance(handle, TaskHandle) and handle.state is TaskState.QUEUED for handle in handles
        )


class AdmittedRequests:
    """Count requests from their admission until they end.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.under_way: int = 0
        self._clock = clock
        self._turns = Turns(clock)
        self._coming = Recent()  # admitted, and not handed to the app yet
        self._begun = Recent()  # and have submitted nothing yet
        self._submitting = 1.0  # the share of those that submit tasks
        self._waiting: deque[tuple[float, AdmittedRequest]] = deque()  # by the instant of the first task
        self._now = 0.0

    def admit(self, now: float) -> Arrival:
        """Note that a request was admitted now. It will begin soon; if it never does, it counts for a moment only."""
        return self._coming.add(now)

    def begin(self, scope: Scope, receive: Receive, arrival: Arrival) -> AdmittedRequest:
        """Enter a request that was admitted."""
        self.under_way += 1
        return AdmittedRequest(scope, receive, self, arrival)

    async def turn(self, request: AdmittedRequest) -> None:
        """Wait until the request may begin.

        Cancellation:
            While it waits, it gives its place to the next one.
        """
        request.arrival.forget()
        if not self._turns.take():
            await self._turns.wait()
        request.has_begun = True
        request.arrival.forget()  # it may have waited twice at a time
        if not request.tasks and not request.closed:
            request.arrival = self._begun.add(self._clock())

    def this_turn(self) -> int:
        """Return a number that is another one in the next turn of the loop."""
        return self._turns.this_turn()

    async def turn_again(self, request: AdmittedRequest, turn: int) -> None:
        """Wait until a request that has begun may go on, unless it is still that turn.

        Cancellation:
            As for ``turn``.
        """
        if self._turns.number != turn:
            await self.turn(request)

    def submitted(self, request: AdmittedRequest) -> None:
        """Note that a request has its first task in the pool."""
        self._submitting += _SHARE_WEIGHT * (1.0 - self._submitting)
        request.arrival.forget()
        self._waiting.append((self._now, request))

    def end(self, request: AdmittedRequest) -> None:
        """Forget a request."""
        self.under_way -= 1
        if request.has_begun and not request.tasks:
            self._submitting -= _SHARE_WEIGHT * self._submitting
        request.arrival.forget()

    def arriving(self, now: float) -> float:
        """Return how many are expected to submit a task of those that were admitted of late, or wait for their turn."""
        self._now = now
        self._coming.forget_late(now)
        self._begun.forget_late(now)
        to_begin = self._coming.count + len(self._turns)
        return to_begin * max(_LEAST_SHARE, self._submitting) + self._begun.count * self._submitting

    def begin_wait(self) -> float:
        """Return the seconds until one may begin that comes now."""
        return self._turns.wait_s(self._coming.count)

    def drop(self, now: float, after: float) -> int:
        """Give up requests whose tasks have all waited for ``after`` seconds and more; return how many."""
        dropped, waiting = 0, self._waiting
        while waiting and now - waiting[0][0] >= after:
            _, request = waiting.popleft()
            if not request.closed and request.waits():
                request.end(QueueFull(f"it has waited for {after:.3g} s and more", retry_after=after))
                dropped += 1
        return dropped
