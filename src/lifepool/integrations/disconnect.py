"""A client that goes away takes its tasks with it.

Servers don't cancel a handler whose client is gone, and ``request.is_disconnected()`` never turns true behind a
``BaseHTTPMiddleware``. Awaiting ``receive()`` works in both cases. So a watcher awaits it from the first task on until
the handler returns, and when the client goes, the tasks are aborted: queued ones are dropped, running ones interrupted,
and whoever awaits one gets ``ClientDisconnected``. The handler itself is not cancelled: it may have a transaction to
roll back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection, Request
from starlette.types import Message

from lifepool.errors import ClientDisconnected
from lifepool.scope import TaskScope, current_scope

if TYPE_CHECKING:
    from lifepool.scope import Endable

logger = logging.getLogger("lifepool")

_GONE: Message = {"type": "http.disconnect"}


class RequestScope(TaskScope):
    """The tasks of one request. It starts to watch the client with the first task.

    Args:
        request: The request; its body must have been read when the first task is submitted. While a handler still
            streams the body, nothing is watched: the next message is the handler's.
    """

    __slots__ = ("_closed", "_messages", "_receive", "_request", "_watcher")

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request
        self._receive = request.receive
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._watcher: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, handle: Endable) -> None:
        """Enter a task, unless the handler is done: what goes on in its context then is not the client's any more."""
        if self._closed:
            return
        super().add(handle)
        if self._watcher is None and _body_was_read(self._request):
            # An empty body has an end too, and the handler may ask for it later: what the watcher gets, it hands on.
            # Two who wait for messages side by side would take them away from each other.
            self._request._receive = self._next_message
            self._watcher = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        """The handler is done: stop watching. Tasks that it left behind live on."""
        self._closed = True
        self._request._receive = self._receive
        if (watcher := self._watcher) is None:
            return
        watcher.cancel()
        await asyncio.wait([watcher])
        if not watcher.cancelled() and (error := watcher.exception()) is not None:
            logger.warning("could not watch for the client to go away: %r", error)

    async def _watch(self) -> None:
        message: Message = {}
        try:
            while message.get("type") != _GONE["type"]:
                message = await self._receive()
                self._messages.put_nowait(message)
        except Exception:
            self._messages.put_nowait(_GONE)  # a handler that waits for a message must not do so for ever
            raise
        self.end(ClientDisconnected())

    async def _next_message(self) -> Message:
        message = await self._messages.get()
        if message["type"] == _GONE["type"]:
            self._messages.put_nowait(message)  # servers, too, say it as often as they are asked
        return message


async def watch_client(connection: HTTPConnection) -> AsyncIterator[None]:
    """A dependency: tasks that this request's handler submits are aborted when its client goes away.

    ``PoolDep`` includes it. For handlers that use a global pool: ``Depends(watch_client)``, on a route, a router or the
    whole app, with ``scope="function"``: when the handler has returned, what it left to background tasks is not
    the client's any more.
    """
    if not isinstance(connection, Request):  # a WebSocket's handler hears of the end itself
        yield
        return
    scope = RequestScope(connection)
    token = current_scope.set(scope)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # closed in another context than it was opened in
            current_scope.reset(token)
        await scope.close()


def _body_was_read(request: Request) -> bool:
    """Whether nothing is left of the body, so that what comes next can only be the end."""
    if hasattr(request, "_body") or getattr(request, "_stream_consumed", False):
        return True
    if "content-length" in request.headers:
        return request.headers["content-length"] == "0"
    if request.scope.get("http_version", "1.1").startswith("1"):
        return "transfer-encoding" not in request.headers
    return request.method in ("GET", "HEAD")  # from HTTP/2 on a body needs no header
