"""Requests that were admitted: which of them may begin, which still arrive, and which wait in the pool."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool._core.states import TaskState
from lifepool._engine.handle import TaskHandle
from lifepool.errors import QueueFull
from lifepool.integrations.request_scope import RequestScope
from lifepool.integrations.shedding.turns import Turns

if TYPE_CHECKING:
    from lifepool._engine.scope import Endable
    from lifepool.integrations.asgi import Receive, Scope

#: By how much each request changes what share of them is expected to submit tasks.
_SHARE_WEIGHT = 0.1
#: Seconds for which a request counts as arriving. One that sends its body for longer is no load until it is there.
ARRIVING_S = 0.1


@dataclass(slots=True)
class Arrival:
    """A request that was admitted, and whose first task is still to come.

    Attributes:
        admitted: The monotonic instant.
        is_arriving: Whether it counts as such.
    """

    admitted: float
    is_arriving: bool = True


class AdmittedRequest(RequestScope):
    """The tasks of a request that was admitted.

    Args:
        scope: The request's ASGI scope.
        receive: The server's.
        requests: All of them.
        arrival: What was noted when it was admitted.

    Attributes:
        tasks: How many it has submitted.
    """

    __slots__ = ("_requests", "arrival", "tasks")

    def __init__(self, scope: Scope, receive: Receive, requests: AdmittedRequests, arrival: Arrival) -> None:
        super().__init__(scope, receive)
        self.arrival: Arrival = arrival
        self._requests = requests
        self.tasks: int = 0

    def add(self, handle: Endable) -> None:
        """Enter a task."""
        self.tasks += 1
        if self.tasks == 1:
            self._requests.submitted(self)
        super().add(handle)

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
    """Count requests from their admission until they end."""

    def __init__(self) -> None:
        self.under_way: int = 0
        self._arriving_count = 0
        self._turns = Turns()
        # The share of those that submit tasks. Few begin in the first turn of a burst: those tell of the others.
        self._submitting = 0.0
        self._arriving: deque[Arrival] = deque()  # in the order of admission; those that have arrived, too
        self._waiting: deque[tuple[float, AdmittedRequest]] = deque()  # by the instant of the first task
        self._now = 0.0

    def admit(self, now: float) -> Arrival:
        """Note that a request was admitted now. It will begin soon; if it never does, it counts for a moment only."""
        arrival = Arrival(now)
        self._arriving_count += 1
        self._arriving.append(arrival)
        return arrival

    def begin(self, scope: Scope, receive: Receive, arrival: Arrival) -> AdmittedRequest:
        """Enter a request that was admitted."""
        self.under_way += 1
        return AdmittedRequest(scope, receive, self, arrival)

    async def turn(self, request: AdmittedRequest) -> None:
        """Wait until the request may begin. While it waits it counts as arriving, for however long.

        Cancellation:
            It gives its place to the next one.
        """
        if not self._turns.take():
            self._arrived(request.arrival)
            await self._turns.wait()
            request.arrival = self.admit(self._now)

    def submitted(self, request: AdmittedRequest) -> None:
        """Note that a request has its first task in the pool."""
        self._submitting += _SHARE_WEIGHT * (1.0 - self._submitting)
        self._arrived(request.arrival)
        self._waiting.append((self._now, request))

    def end(self, request: AdmittedRequest) -> None:
        """Forget a request."""
        self.under_way -= 1
        if not request.tasks:
            self._submitting -= _SHARE_WEIGHT * self._submitting
        self._arrived(request.arrival)

    def arriving(self, now: float) -> float:
        """Return how many are expected to submit a task of those that were admitted of late, or wait for their turn."""
        self._now = now
        waiting = self._arriving
        while waiting and (not waiting[0].is_arriving or now - waiting[0].admitted > ARRIVING_S):
            self._arrived(waiting.popleft())
        return (self._arriving_count + len(self._turns)) * self._submitting

    def drop(self, now: float, after: float) -> int:
        """Give up requests whose tasks have all waited for ``after`` seconds and more; return how many."""
        dropped, waiting = 0, self._waiting
        while waiting and now - waiting[0][0] >= after:
            _, request = waiting.popleft()
            if not request.closed and request.waits():
                request.end(QueueFull(f"it has waited for {after:.3g} s and more", retry_after=after))
                dropped += 1
        return dropped

    def _arrived(self, arrival: Arrival) -> None:
        self._arriving_count -= arrival.is_arriving
        arrival.is_arriving = False
