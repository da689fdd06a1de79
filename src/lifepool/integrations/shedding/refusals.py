"""The answer to a refused request, made in advance, and what becomes of its body."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lifepool.integrations.asgi import Receive, Scope, Send

#: A body of up to so many bytes is read and thrown away, so that the connection can be used again: closing it costs
#: both sides more, and a client that still sends loses the answer.
DISCARD_MOST = 1 << 20
#: Seconds that it may take to come.
DISCARD_S = 1.0
#: Bodies that are thrown away at a time: so many slow clients may hold a connection for ``DISCARD_S``.
DISCARDING_MOST = 1000

_DETAIL = "the service has more requests than it can answer in time; send it again after Retry-After seconds"


@dataclass(slots=True)
class Discard:
    """A body that is thrown away.

    Attributes:
        task: Reads it; None when that is over.
        ends: The monotonic instant at which that is given up.
        is_late: Whether it was.
    """

    task: asyncio.Task[Any] | None
    ends: float
    is_late: bool = False


class Refusals:
    """Answer 503 at the least cost.

    A timer for each body would cost a tenth of a refusal, though hardly one ever goes off: the middleware calls
    ``give_up_late`` instead.
    """

    def __init__(self) -> None:
        self._discarding = 0
        self._discards: deque[Discard] = deque()  # in the order of their ends; those that are over, too

    def give_up_late(self, now: float) -> None:
        """Read no more of bodies that have taken ``DISCARD_S``; to be called many times a second."""
        discards = self._discards
        while discards and (discards[0].task is None or discards[0].ends <= now):
            discard = discards.popleft()
            if discard.task is not None:
                discard.is_late = True
                discard.task.cancel()

    async def answer(self, scope: Scope, receive: Receive, send: Send, now: float, retry_after: int) -> None:
        """Refuse a request; its connection stays open if its body is small, and comes at once.

        Args:
            scope: The request's.
            receive: The server's.
            send: The server's.
            now: The monotonic instant.
            retry_after: Seconds after which to come again.
        """
        reusable = await self._discard(scope, receive, now)
        if reusable is None:
            return
        made, body = response(retry_after)
        headers = list(made)  # a list of its own: middleware outside may add to it
        if not reusable and scope.get("http_version", "1.1").startswith("1"):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _discard(self, scope: Scope, receive: Receive, now: float) -> bool | None:
        """Throw the body away. Return whether it is gone as a whole; None if the client is."""
        length = 0
        has_body = not scope.get("http_version", "1.1").startswith("1")  # from HTTP/2 on a body needs no header
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value) if value.strip().isdigit() else DISCARD_MOST + 1
                has_body = has_body or length > 0
            elif name == b"transfer-encoding":
                has_body = True
            elif name == b"expect":  # it waits for a word before it sends the body: reading would ask for it
                return False
        if not has_body:
            return True
        if length > DISCARD_MOST or self._discarding >= DISCARDING_MOST:
            return False
        task = asyncio.current_task()
        discard = Discard(task, now + DISCARD_S)
        self._discards.append(discard)
        self._discarding += 1
        try:
            return await _read_to_the_end(receive)
        except asyncio.CancelledError:
            if discard.is_late and task is not None and not task.uncancel():
                return False
            raise  # by somebody else
        finally:
            self._discarding -= 1
            discard.task = None


async def _read_to_the_end(receive: Receive) -> bool | None:
    seen = 0
    while seen <= DISCARD_MOST:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if not message.get("more_body", False):
            return True
        seen += len(message.get("body", b""))
    return False


@cache
def response(retry_after: int) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    """Return the headers and the body of a refusal; there are as many as values of ``Retry-After``."""
    body = json.dumps(
        {
            "type": "urn:lifepool:overloaded",
            "title": "Service Unavailable",
            "status": 503,
            "detail": _DETAIL,
            "retry_after": retry_after,
        }
    ).encode()
    headers = (
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"%d" % retry_after),
        (b"cache-control", b"no-store"),
    )
    return headers, body
