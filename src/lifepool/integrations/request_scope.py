"""The tasks of one request, which end with its client. Needs no web framework."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from lifepool._engine.scope import TaskScope, current_scope
from lifepool.errors import ClientDisconnected

if TYPE_CHECKING:
    from lifepool._engine.scope import Endable
    from lifepool.integrations.asgi import ASGIApp, Message, Receive, Scope, Send

logger: logging.Logger = logging.getLogger("lifepool")

#: Where a request's ``RequestScope`` is found in its ASGI scope.
KEY = "lifepool.request"


async def serve_watched(app: ASGIApp, request: RequestScope, scope: Scope, send: Send) -> None:
    """Serve one request with a scope for its tasks, from the handler's beginning until the response begins.

    Args:
        app: The app inside.
        request: The scope, made with the server's ``receive``.
        scope: The request's ASGI scope.
        send: The server's.
    """
    scope[KEY] = request

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start" and request.is_to_close():
            await request.close()
        await send(message)

    token = current_scope.set(request)
    try:
        await app(scope, request.receive, send_on)
    finally:
        current_scope.reset(token)
        if request.is_to_close():
            await request.close()
        scope.pop(KEY, None)  # each knows the other


class RequestScope(TaskScope):
    """The tasks of one request. It begins to watch the client when there is a task, and the body has been read.

    While a handler still streams the body nothing is watched: the next message is the handler's. Where both wait for
    messages, one waits, and the other is handed what came: side by side they would take them away from each other.

    Args:
        scope: The request's ASGI scope.
        receive: The server's.
        body_was_read: Whether the body's end has been received already.

    Attributes:
        closed: Whether the handler is done: what comes then is not the client's any more.
    """

    __slots__ = ("_arrived", "_body_ended", "_receive", "_scope", "_waiting", "_watch", "closed")

    def __init__(self, scope: Scope, receive: Receive, *, body_was_read: bool = False) -> None:
        super().__init__()
        self.closed: bool = False
        self._scope = scope
        self._receive = receive
        self._body_ended = body_was_read
        self._arrived: deque[Message] | None = None  # received while the client was watched
        self._watch: asyncio.Task[Message] | None = None  # waits for the next message
        self._waiting = 0  # handlers that wait for it as well

    def add(self, handle: Endable) -> None:
        """Enter a task, unless the handler is done: what goes on in its context then is not the client's any more."""
        if self.closed:
            return
        super().add(handle)
        if self._watch is None and (self._body_ended or _has_no_body(self._scope)):
            self._look_out()

    async def receive(self) -> Message:
        """Return the next message, for the handler."""
        while not self._arrived:
            watch = self._watch
            if watch is None:
                message = await self._receive()
                self._heard(message)
                return message
            self._waiting += 1
            try:
                await asyncio.wait([watch])
            finally:
                self._waiting -= 1
                if self.closed and not self._waiting:
                    watch.cancel()
        if self._arrived[0]["type"] == "http.disconnect":
            return self._arrived[0]  # servers, too, say it as often as they are asked
        return self._arrived.popleft()

    def is_to_close(self) -> bool:
        """Enter no more tasks; whether there is more to do than that, which is rare and costs a coroutine."""
        self.closed = True
        return self._watch is not None

    async def close(self) -> None:
        """Watch no more: the handler is done. Tasks that it left behind live on."""
        self.closed = True
        watch = self._watch
        if watch is not None and not self._waiting:
            watch.cancel()
            await asyncio.wait([watch])

    def _look_out(self) -> None:
        self._watch = asyncio.ensure_future(self._receive())
        self._watch.add_done_callback(self._came)

    def _came(self, watch: asyncio.Task[Message]) -> None:
        """Keep what came for the handler, and go on waiting as long as it can only be the end."""
        self._watch = None
        if watch.cancelled():
            return
        self._arrived = self._arrived or deque()
        if (error := watch.exception()) is not None:
            logger.warning("could not watch for the client to go away: %r", error)
            self._arrived.append({"type": "http.disconnect"})  # nobody is to wait for a message for ever
            return
        message = watch.result()
        self._arrived.append(message)
        self._heard(message)

    def _heard(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            if not self.closed:
                self.end(ClientDisconnected())
            return
        # Something between the server and us may repeat the body for ever: then there is nothing to watch.
        repeats = self._body_ended
        self._body_ended = not message.get("more_body", False)
        if self._body_ended and not repeats and self._handles and not self.closed and self._watch is None:
            self._look_out()


def _has_no_body(scope: Scope) -> bool:
    """Tell whether there is none, so that what comes next can only be the end."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if b"content-length" in headers:
        return headers[b"content-length"] == b"0"
    if scope.get("http_version", "1.1").startswith("1"):
        return b"transfer-encoding" not in headers
    return scope["method"] in ("GET", "HEAD")  # from HTTP/2 on a body needs no header
