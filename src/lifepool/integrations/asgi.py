"""Give any ASGI app a pool, also one whose framework knows no lifespans: ``app = with_pool(app, pool)``.

FastAPI and Starlette users need none of this: ``install(app, pool)``, ``Starlette(lifespan=pool.lifespan)``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from lifepool.pool import Pool

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def with_pool(app: ASGIApp, pool: Pool, *, state_key: str = "pool") -> ASGIApp:
    """Wrap an ASGI app so that the pool starts before it and ends after it.

    The wrapped app's own lifespan, if it has one, runs inside. Each request finds the pool as
    ``scope["state"][state_key]``. SIGTERM and Ctrl-C are handled when they come, as with ``Pool.lifespan``.

    Args:
        app: Any ASGI app.
        pool: The pool; it must not be running.
        state_key: The name in the request's state.

    Returns:
        An ASGI app for the server.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(app, pool, state_key, scope, receive, send).run()
        else:
            scope.setdefault("state", {})[state_key] = pool
            await app(scope, receive, send)

    return wrapped


_LAST_MESSAGES = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


class _Lifespan:
    """One run of the lifespan protocol: the server's messages pass through, the pool is put around them."""

    def __init__(self, app: ASGIApp, pool: Pool, state_key: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._pool = pool
        self._scope = scope
        self._receive = receive
        self._send = send
        self._life = AsyncExitStack()  # the pool's: with it SIGTERM is handled when it comes
        self._answered = ""  # the type of the last message that the app has sent itself
        if "state" in scope:
            scope["state"][state_key] = pool

    async def run(self) -> None:
        """Run the pool around the app, from the server's startup message to its shutdown message."""
        await self._receive()  # lifespan.startup
        try:
            await self._life.enter_async_context(self._pool.lifespan(None))
        except Exception as error:
            await self._send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        try:
            await self._run_app()
        finally:
            await self._life.aclose()
        if self._answered not in _LAST_MESSAGES:
            await self._send({"type": "lifespan.shutdown.complete"})

    async def _run_app(self) -> None:
        """Let the app have its lifespan; one that has none raises at once, which the protocol allows."""
        started = False

        async def receive() -> Message:
            nonlocal started
            if not started:
                started = True
                return {"type": "lifespan.startup"}
            return await self._receive()

        async def send(message: Message) -> None:
            self._answered = message["type"]
            if self._answered in _LAST_MESSAGES:  # the server may exit as soon as it has this message
                await self._life.aclose()
            await self._send(message)

        try:
            await self._app(self._scope, receive, send)
        except Exception:
            if self._answered:
                raise
        if not self._answered:
            await self._send({"type": "lifespan.startup.complete"})
            await self._receive()  # lifespan.shutdown
