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
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection, Request

from lifepool.errors import ClientDisconnected
from lifepool.scope import TaskScope, current_scope

if TYPE_CHECKING:
    from lifepool._engine.handle import TaskHandle


class RequestScope(TaskScope):
    """The tasks of one request. It starts to watch the client with the first task.

    Args:
        request: The request; its body must have been read when the first task is submitted. While a handler still
            streams the body, nothing is watched: the next message is the handler's.
    """

    __slots__ = ("_request", "_watcher")

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request
        self._watcher: asyncio.Task[None] | None = None

    def add(self, handle: TaskHandle[Any]) -> None:
        """Enter a task."""
        super().add(handle)
        if self._watcher is None and _body_was_read(self._request):
            self._watcher = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        """The handler is done: stop watching. Tasks that it left behind live on."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher

    async def _watch(self) -> None:
        while True:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                self.end(ClientDisconnected())
                return


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
    if hasattr(request, "_body") or getattr(request, "_form", None) is not None:
        return True
    if getattr(request, "_stream_consumed", False):
        return True
    length = request.headers.get("content-length", "0")
    return length == "0" and "transfer-encoding" not in request.headers
