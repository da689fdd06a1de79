"""Abort the tasks of a client that goes away.

Servers don't cancel a handler whose client is gone, and ``request.is_disconnected()`` never turns true behind a
``BaseHTTPMiddleware``. Awaiting ``receive()`` works in both cases. So from the first task on, until the response
begins, a watcher awaits it, and when the client goes, the tasks are aborted: queued ones are dropped, running ones
interrupted, and whoever awaits one gets ``ClientDisconnected``. The handler itself is not cancelled: it may have a
transaction to roll back.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lifepool._engine.scope import current_scope
from lifepool.integrations.request_scope import KEY, RequestScope, serve_watched


class WatchClients:
    """ASGI middleware: tasks that a request submits are aborted when its client goes away.

    ``install(app, pool)`` adds it, so that it does not matter how a handler gets at the pool. It reads no body and
    waits for nothing by itself; a request that submits no task pays some four microseconds.

    Args:
        app: The app inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or KEY in scope:  # a WebSocket's handler hears of the end itself
            await self._app(scope, receive, send)
            return
        await serve_watched(self._app, RequestScope(scope, receive), scope, send)


async def watch_client(connection: HTTPConnection) -> AsyncIterator[None]:
    """Do as a dependency what ``WatchClients`` does, for apps without ``install``; ``PoolDep`` includes it.

    ``Depends(watch_client, scope="function")``, on a route, a router or the whole app: when the handler has returned,
    what it left to background tasks is not the client's any more.
    """
    if not isinstance(connection, Request):  # a WebSocket's handler hears of the end itself
        yield
        return
    watched: RequestScope | None = connection.scope.get(KEY)
    if watched is not None:
        try:
            yield
        finally:
            await watched.close()
        return
    receive = connection.receive
    scope = RequestScope(connection.scope, receive, body_was_read=_body_was_read(connection))
    connection._receive = scope.receive
    token = current_scope.set(scope)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # closed in another context than it was opened in
            current_scope.reset(token)
        await scope.close()


def _body_was_read(request: Request) -> bool:
    return hasattr(request, "_body") or getattr(request, "_stream_consumed", False)
