"""FastAPI: the pool as a dependency, and its errors as ``application/problem+json`` (RFC 9457), documented in OpenAPI.

::

    pool = Pool()
    app = FastAPI()
    install(app, pool)

    @app.post("/score")
    async def score(text: str, pool: PoolDep) -> float:
        return await pool.run(score_text, text, timeout=2.0)
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

try:
    from fastapi import Depends, FastAPI
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse
    from starlette.websockets import WebSocket, WebSocketState
except ImportError as error:  # pragma: no cover - needs an environment without FastAPI
    raise ImportError("lifepool.integrations.fastapi needs FastAPI: pip install 'lifepool[fastapi]'") from error

from lifepool._core.admission import NOT_STARTED_HINT
from lifepool.errors import (
    InternalError,
    PayloadTooLarge,
    PoolClosed,
    PoolError,
    QueueFull,
    TaskTimeout,
    WorkerLost,
    WorkerStartError,
)
from lifepool.integrations.disconnect import watch_client
from lifepool.pool import Pool

MEDIA_TYPE = "application/problem+json"

#: What a route that uses the pool may answer besides its own answers, most likely first.
_DOCUMENTED: tuple[tuple[type[PoolError], str], ...] = (
    (QueueFull, "The pool is full, starting or shutting down; try again after Retry-After seconds."),
    (TaskTimeout, "The task passed its timeout."),
    (WorkerLost, "The task failed, or its worker died."),
    (PayloadTooLarge, "The data is too large for a task."),
)

#: From HTTP status to the close code of a WebSocket (RFC 6455 and the IANA registry); 1011, internal error, for others.
_CLOSE_CODES = {503: 1013, 413: 1009}
#: Bytes that fit into a close frame beside its code (RFC 6455, 5.5).
_MAX_REASON = 123

#: What is an operation in an OpenAPI path; beside them stand its summary, parameters and servers.
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "An error as described by RFC 9457.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:lifepool:queue-full"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string", "description": "What to do about it."},
        "retry_after": {"type": "number", "description": "Seconds after which trying again makes sense."},
    },
}


async def get_pool(
    connection: HTTPConnection, _watched: Annotated[None, Depends(watch_client, scope="function")] = None
) -> Pool:
    """The app's pool: from ``request.state.pool``, where the lifespan puts it, else from ``app.state.pool``.

    Tasks that the handler submits are aborted when its client goes away: see ``watch_client``.

    It waits for nothing. It is async because FastAPI sends plain functions to a thread, which costs 100 µs a request,
    and waits for one when all are busy.

    Raises:
        PoolClosed: If there is none, because the app's lifespan did not run.
    """
    pool = getattr(connection.state, "pool", None) or getattr(connection.app.state, "pool", None)
    if not isinstance(pool, Pool):
        raise PoolClosed("this app has no running pool", hint=NOT_STARTED_HINT)
    return pool


#: The pool as a parameter of a handler, for HTTP and WebSocket: ``async def handler(pool: PoolDep)``. It is the same
#: pool as the global one; what it adds is that a client that goes away takes its tasks along.
PoolDep = Annotated[Pool, Depends(get_pool)]


def problem(error: PoolError) -> dict[str, Any]:
    """The body of an error response.

    Args:
        error: What the pool raised. An internal error's story and a worker's traceback stay in the log: the answer
            goes to strangers.
    """
    name = type(error).__name__
    body: dict[str, Any] = {
        "type": f"urn:lifepool:{_dashed(name)}",
        "title": _title(error.status_hint),
        "status": error.status_hint,
        "detail": _detail(error),
    }
    if error.hint:
        body["hint"] = error.hint
    if isinstance(error, QueueFull):
        body["retry_after"] = round(error.retry_after, 3)
    return body


def pool_responses() -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of a route that uses the pool, for ``@app.post(..., responses=pool_responses())``.

    They refer to the schema ``Problem``, which ``install`` brings.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for error, description in _DOCUMENTED:
        responses[error.status_hint] = {
            "description": description,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    responses[QueueFull.status_hint]["headers"] = {
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
    }
    return responses


def install(app: FastAPI, pool: Pool, *, is_documented: Callable[[str, str], bool] | None = None) -> None:
    """Give the app its pool: started and ended with it, found by ``PoolDep``, its errors answered and documented.

    The pool starts before the app's own lifespan begins and ends after it. An app that has ``lifespan=pool.lifespan``
    as well loses nothing: nested holders are counted. Routes may be added before or after.

    A ``PoolError`` becomes problem+json wherever FastAPI handles exceptions: in handlers, dependencies and included
    routers. A WebSocket is closed with 1013 (try again later), 1009 (too big) or 1011, or, before it was accepted,
    refused with the problem as its response. Out of reach are middleware, background tasks and responses that have
    started. A mounted app has exception handlers of its own: install the pool there too.

    Args:
        app: The app; it has not started yet.
        pool: Its pool.
        is_documented: Called with the path, such as ``"/score/{id}"``, and the method, such as ``"POST"``, of every
            operation: whether the pool's responses belong into its documentation. None: into all. A response that a
            route documents itself, and a schema ``Problem`` of the app's own, are left alone.

    Raises:
        RuntimeError: If the app has started: its exception handlers are fixed from then on.
    """
    if app.middleware_stack is not None:
        raise RuntimeError("the app has started already: call install(app, pool) where the app is made")
    app.state.pool = pool
    app.add_exception_handler(PoolError, _answer)  # type: ignore[arg-type]  # Starlette's type knows no WebSockets
    _start_with(app, pool)
    _document_in(app, is_documented)


def _start_with(app: FastAPI, pool: Pool) -> None:
    """Put the pool's life around the app's own lifespan, whatever that is."""
    own = app.router.lifespan_context

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with pool.lifespan(app) as state, own(app) as own_state:
            yield {**state, **(own_state or {})}

    app.router.lifespan_context = both


async def _answer(connection: Request | WebSocket, error: PoolError) -> JSONResponse | None:
    headers = {}
    if isinstance(error, QueueFull):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    response = JSONResponse(problem(error), error.status_hint, headers, MEDIA_TYPE)
    if not isinstance(connection, WebSocket):
        return response
    await _end(connection, error, response)
    return None


async def _end(websocket: WebSocket, error: PoolError, denial: JSONResponse) -> None:
    """Tell the other side of a WebSocket, if it is still there."""
    if WebSocketState.DISCONNECTED in (websocket.client_state, websocket.application_state):
        return
    waits = websocket.application_state is WebSocketState.CONNECTING
    if waits and "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(denial)
        return
    reason = _detail(error).encode()[:_MAX_REASON].decode(errors="ignore")
    await websocket.close(_CLOSE_CODES.get(error.status_hint, 1011), reason)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499 is not registered
        return "Client Closed Request" if status == 499 else "Error"


def _detail(error: PoolError) -> str:
    if isinstance(error, InternalError):
        return "the pool has a bug; its log says more"
    if isinstance(error, WorkerStartError):
        return "no worker can be started; the log says why"
    return str(error.args[0]) if error.args else type(error).__name__


def _dashed(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


def _document_in(app: FastAPI, is_documented: Callable[[str, str], bool] | None) -> None:
    original = app.openapi
    documented: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal documented
        schema = original()
        if schema is not documented:  # FastAPI makes a new one whenever routes were added
            _document(schema, is_documented)
            documented = schema
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way of extending the schema


def _document(schema: dict[str, Any], is_documented: Callable[[str, str], bool] | None) -> None:
    schema.setdefault("components", {}).setdefault("schemas", {}).setdefault("Problem", PROBLEM_SCHEMA)
    for path, operations in schema.get("paths", {}).items():
        for method, operation in operations.items():
            if method not in _METHODS or (is_documented is not None and not is_documented(path, method.upper())):
                continue
            for status, response in pool_responses().items():
                operation.setdefault("responses", {}).setdefault(str(status), response)
