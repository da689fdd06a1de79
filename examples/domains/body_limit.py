"""Bound what a body may cost: its size, the time it takes to come, and the memory that all of them hold."""

import asyncio
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.domains.limits import Limits
from examples.domains.problems import Problem

ENDING_GRACE = 5.0  # seconds for bodies that still come when the server is asked to stop
LOOK = 0.5  # seconds between two looks at whether it was, while a body stalls
TRY_AGAIN = "Try again after Retry-After seconds."
RETRY_AFTER = 2  # seconds, for a client that came when too much was buffered


class BodyLimit:
    """ASGI middleware: a body that is too large, too slow, or one too many ends in 413, 408 or 503.

    A Content-Length that is too large is refused before a byte is read; without one (a chunked
    body) the bytes are counted as they come. FastAPI's `max_body_size=` does the same, but answers
    a declared Content-Length in plain text, which no client of this service expects.

    A body may pause for `read_timeout` seconds, and must have come at `min_rate` bytes a second on
    average from then on, while it is waited for. What is kept in memory until it is whole counts
    against `max_buffered` until its request is answered; of streamed ones there may be `max_uploads`
    at a time.

    Args:
        app: The application to guard.
        streamed: Paths whose bodies are not buffered: the most bytes, and the hint of the refusal.
        hint: The hint for all others, which may have `max_body` bytes.
        limits: The limits, looked up for each request.
        is_ending: Whether the server was asked to stop.
    """

    def __init__(
        self,
        app: ASGIApp,
        streamed: Mapping[str, tuple[int, str]],
        hint: str,
        limits: Callable[[], Limits],
        is_ending: Callable[[], bool],
    ) -> None:
        self.app = app
        self.streamed = streamed
        self.hint = hint
        self.limits = limits
        self.is_ending = is_ending
        self.buffered = self.streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that looks at what comes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limits = self.limits()
        most, hint = self.streamed.get(route_path(scope), (limits.max_body, self.hint))
        is_buffered = route_path(scope) not in self.streamed
        body = _Body(self, limits, Headers(scope=scope), most, hint, is_buffered=is_buffered)
        self.streams += not is_buffered
        try:
            await self.app(scope, lambda: body.receive(receive), send)
        finally:
            self.buffered -= body.buffered
            self.streams -= not is_buffered


def route_path(scope: Scope) -> str:
    """Return the path as routes know it: without the prefix that a proxy or a mount has put in front."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


class _Body:
    """One request's body, while it comes."""

    def __init__(
        self, guard: BodyLimit, limits: Limits, headers: Headers, most: int, hint: str, *, is_buffered: bool
    ) -> None:
        self.buffered = 0
        self._guard = guard
        self._limits = limits
        self._most = most
        self._hint = hint
        self._is_buffered = is_buffered
        declared = headers.get("content-length", "")
        self._expected = int(declared) if declared.isdecimal() else 0
        self._received = 0
        self._is_whole = False
        self._clock = asyncio.get_running_loop().time
        self._waited = 0.0  # seconds, for what has come

    async def receive(self, receive: Receive) -> Message:
        """Return the next message.

        Raises:
            Problem: 413 if the body is too large, 408 if it is too slow, 503 if the service
                has too much in memory already or is about to end.
        """
        self._check_size(self._expected)
        if not self._is_buffered and not self._received and self._guard.streams > self._limits.max_uploads:
            raise _come_again("There are as many uploads as can be taken now.", TRY_AGAIN, RETRY_AFTER)
        message = await receive() if self._is_whole else await self._within_time(receive)
        size = len(message.get("body", b""))
        self._received += size
        self._is_whole = not message.get("more_body", False)
        self._check_size(self._received)
        if self._is_buffered:
            self._buffer(size)
        return message

    def _check_size(self, size: int) -> None:
        if size > self._most:
            detail = f"This is larger than the {self._most:,} bytes that are taken here."
            raise Problem(413, detail, self._hint, limit=self._most)

    def _buffer(self, size: int) -> None:
        guard = self._guard
        guard.buffered += size
        self.buffered += size
        if guard.buffered > self._limits.max_buffered and guard.buffered > self.buffered:  # one alone is always taken
            detail = "The service has as many texts as it can now."
            raise _come_again(detail, TRY_AGAIN, RETRY_AFTER)

    async def _within_time(self, receive: Receive) -> Message:
        limits, began = self._limits, self._clock()
        pause_ends = began + limits.read_timeout
        rate_ends = pause_ends + self._received / limits.min_rate - self._waited
        deadline = min(pause_ends, rate_ends)
        wait = _Wait(deadline, self._guard.is_ending)
        try:
            # In this task, not in one of its own: `LoadShedding` then sees how long it takes to handle the body.
            async with wait.bound:
                return await receive()
        except TimeoutError:
            if not wait.bound.expired():
                raise
            if wait.is_cut_short:
                raise _come_again("The server is being stopped.", "Send it again.", 1) from None
            raise _too_slow(limits, is_stalled=not self._received or pause_ends <= rate_ends) from None
        finally:
            wait.end()
            self._waited += self._clock() - began


class _Wait:
    """The wait for one message, until a deadline or some seconds after the server was asked to stop.

    A class, for a closure that refers to itself lives until the next garbage collection. It would keep the task that
    has waited, and what that returned: a piece of the body.

    Args:
        deadline: By the loop's clock.
        is_ending: Whether the server was asked to stop.

    Attributes:
        bound: To wait in.
        is_cut_short: Whether it ends before the deadline.
    """

    def __init__(self, deadline: float, is_ending: Callable[[], bool]) -> None:
        self.bound = asyncio.timeout_at(deadline)
        self.is_cut_short = False
        self._deadline = deadline
        self._is_ending = is_ending
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(LOOK, self._look)

    def end(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        soon = self._loop.time() + ENDING_GRACE
        if not self._is_ending():
            self._timer = self._loop.call_later(LOOK, self._look)
        elif soon < self._deadline and not self.bound.expired():
            self.is_cut_short = True
            self.bound.reschedule(soon)


def _too_slow(limits: Limits, *, is_stalled: bool) -> Problem:
    slow = f"The body came at less than {limits.min_rate:,} bytes a second."
    problem = Problem(408, f"No data came for {limits.read_timeout} s." if is_stalled else slow, "Send it again.")
    problem.headers = {"Connection": "close"}
    return problem


def _come_again(detail: str, hint: str, seconds: int) -> Problem:
    problem = Problem(503, detail, hint)
    problem.headers = {"Connection": "close", "Retry-After": str(seconds)}
    return problem
