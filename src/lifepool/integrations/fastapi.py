"""Give a FastAPI app its pool: start and end it, answer its errors, abort the work of clients that leave.

::

    pool = Pool()
    app = FastAPI()
    install(app, pool)

    @app.post("/score")
    async def score(text: str) -> float:
        return await pool.run(score_text, text, timeout=2.0)

Handlers in other modules take the pool as ``pool: PoolDep``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import random
from typing import Annotated, Any

try:
    from fastapi import Depends, FastAPI
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse
    from starlette.websockets import WebSocket, WebSocketState
except ImportError as _error:  # pragma: no cover - needs an environment without FastAPI
    raise ImportError("lifepool.integrations.fastapi needs FastAPI: pip install 'lifepool[fastapi]'") from _error

from lifepool._core.admission import NOT_STARTED_HINT
from lifepool.errors import PoolClosed, PoolError, QueueFull
from lifepool.integrations.disconnect import WatchClients, watch_client
from lifepool.integrations.problems import (
    MEDIA_TYPE,
    PROBLEM_SCHEMA,
    AnswerLog,
    detail,
    document,
    pool_responses,
    problem,
    retry_after,
)
from lifepool.integrations.sharing import share_cpus
from lifepool.pool import Pool

__all__ = ["MEDIA_TYPE", "PROBLEM_SCHEMA", "PoolDep", "get_pool", "install", "pool_named", "pool_responses", "problem"]

#: From HTTP status to the close code of a WebSocket (RFC 6455 and the IANA registry); 1011, internal error, for others.
_CLOSE_CODES = {503: 1013, 413: 1009}
#: Bytes that fit into a close frame beside its code (RFC 6455, 5.5).
_MAX_REASON = 123


async def get_pool(
    connection: HTTPConnection, _watched: Annotated[None, Depends(watch_client, scope="function")] = None
) -> Pool:
    """Return the app's pool, the first if it has several.

    It is looked for in ``request.state.pool``, where the lifespan puts it, then in ``app.state.pool``.

    Tasks that the handler submits are aborted when its client goes away: see ``watch_client``.

    It waits for nothing. It is async because FastAPI sends plain functions to a thread, which costs 100 µs a request,
    and waits for one when all are busy.

    Raises:
        PoolClosed: If there is none, because the app's lifespan did not run.
    """
    pool = getattr(connection.state, "pool", None) or getattr(connection.app.state, "pool", None)
    if isinstance(pool, Pool):
        return pool
    installed = _installed_in(connection.app)
    if not installed.pools:
        raise PoolClosed("this app has no running pool", hint=NOT_STARTED_HINT)
    return installed.pools[0]


#: The pool as a parameter of a handler, for HTTP and WebSocket: ``async def handler(pool: PoolDep)``. It is the same
#: pool as the global one. Tests can replace it: ``app.dependency_overrides[get_pool]``.
PoolDep = Annotated[Pool, Depends(get_pool)]


def pool_named(name: str) -> Callable[..., Awaitable[Pool]]:
    """Make a dependency for one of an app's pools: ``SlowPool = Annotated[Pool, Depends(pool_named("slow"))]``.

    Args:
        name: The pool's, as in ``Pool(name="slow")``. Asking for one that is not installed raises ``PoolClosed``.
    """

    async def get_named_pool(
        connection: HTTPConnection, _watched: Annotated[None, Depends(watch_client, scope="function")] = None
    ) -> Pool:
        pools = _installed_in(connection.app).pools
        found = [pool for pool in pools if pool.config.name == name]
        if len(found) != 1:
            names = ", ".join(repr(pool.config.name) for pool in pools) or "none"
            hint = f"the installed pools are: {names}; see install(app, pool) and Pool(name=...)"
            raise PoolClosed(f"this app has {len(found)} pools with the name {name!r}", hint=hint)
        return found[0]

    return get_named_pool


class _Installed:
    """The state that ``install`` keeps in an app."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []
        self.hints: bool | None = None
        self.log = AnswerLog()


def _installed_in(app: Any) -> _Installed:
    found = getattr(app.state, "lifepool", None)
    return found if isinstance(found, _Installed) else _Installed()


def install(
    app: FastAPI,
    *pools: Pool,
    hints: bool | None = None,
    is_documented: Callable[[str, str], bool] | None = None,
) -> None:
    """Give the app its pool. This one line does all: nothing else starts the pool, ends it or watches clients.

    - The pool starts before the app's own lifespan begins, and ends after it. An app that has
      ``lifespan=pool.lifespan`` as well loses nothing: nested holders are counted.
    - A ``PoolError`` becomes problem+json wherever FastAPI handles exceptions: in handlers, dependencies and included
      routers. A WebSocket is closed with 1013 (try again later), 1009 (too big) or 1011, or, before it was accepted,
      refused with the problem as its response. Out of reach are middleware, background tasks and responses that have
      started. A mounted app has exception handlers of its own: install the pool there too.
    - When a client goes away before the response begins, the tasks that its request has submitted are aborted, however
      the handler got at the pool. A task that is to go on: ``on_cancel="abandon"``.
    - Several pools, in one call or several, share the CPUs: see ``max_workers`` in the reference. ``PoolDep`` is the
      first, ``pool_named`` any of them.

    Routes may be added before or after.

    Args:
        app: The app; it has not started yet.
        *pools: Its pools, at least one.
        hints: Whether answers say to clients what the pool's errors say to developers. None: if the app is in debug
            mode (``FastAPI(debug=True)``). The log has it either way.
        is_documented: Called with the path, such as ``"/score/{id}"``, and the method, such as ``"POST"``, of every
            operation: whether the pool's responses belong into its documentation. None: into all. A response that a
            route documents itself, and a schema ``Problem`` of the app's own, are left alone.

    Raises:
        RuntimeError: If the app has started: its exception handlers are fixed from then on.
        TypeError: If no pool is given.
    """
    if not pools:
        raise TypeError("install() needs at least one pool: install(app, pool)")
    if app.middleware_stack is not None:
        raise RuntimeError("the app has started already: call install(app, pool) where the app is made")
    installed = _installed_in(app)
    first_time = not installed.pools
    app.state.lifepool = installed
    installed.hints = installed.hints if hints is None else hints
    for pool in pools:
        if pool not in installed.pools:
            installed.pools.append(pool)
            _start_with(app, pool)
    share_cpus(installed.pools)
    app.state.pool = installed.pools[0]
    if first_time:
        app.add_middleware(WatchClients)
        _answer_errors_in(app, installed)
    _document_in(app, installed, is_documented)


def _start_with(app: FastAPI, pool: Pool) -> None:
    """Put the pool's life around the app's own lifespan, whatever that is."""
    own = app.router.lifespan_context

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with pool.lifespan(app) as state, own(app) as own_state:
            yield {**state, **(own_state or {})}

    app.router.lifespan_context = both


def _answer_errors_in(app: FastAPI, installed: _Installed) -> None:
    async def answer(connection: Request | WebSocket, error: PoolError) -> JSONResponse | None:
        jitter, hints = random(), app.debug if installed.hints is None else installed.hints  # noqa: S311 - no secret
        route = str(getattr(connection.scope.get("route"), "path", connection.scope["path"]))
        installed.log.answered(connection.scope.get("method", "WebSocket"), route, error)
        headers = {"Retry-After": str(retry_after(error, jitter))} if isinstance(error, QueueFull) else {}
        body = problem(error, hints=hints, jitter=jitter)
        response = JSONResponse(body, error.status_hint, headers, MEDIA_TYPE)
        if not isinstance(connection, WebSocket):
            return response
        await _end(connection, error, response, detail(error, hints=hints))
        return None

    app.add_exception_handler(PoolError, answer)  # type: ignore[arg-type]  # Starlette's type knows no WebSockets


async def _end(websocket: WebSocket, error: PoolError, denial: JSONResponse, text: str) -> None:
    """Close a WebSocket with the reason, if the client is still there."""
    if WebSocketState.DISCONNECTED in (websocket.client_state, websocket.application_state):
        return
    waits = websocket.application_state is WebSocketState.CONNECTING
    if waits and "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(denial)
        return
    reason = text.encode()[:_MAX_REASON].decode(errors="ignore")
    await websocket.close(_CLOSE_CODES.get(error.status_hint, 1011), reason)


def _document_in(app: FastAPI, installed: _Installed, is_documented: Callable[[str, str], bool] | None) -> None:
    original = app.openapi
    documented: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal documented
        schema = original()
        if schema is not documented:  # FastAPI makes a new one whenever routes were added
            document(schema, is_documented, hints=app.debug if installed.hints is None else installed.hints)
            documented = schema
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way of extending the schema
