"""FastAPI: the pool as a dependency, and its errors as ``application/problem+json`` (RFC 9457), documented in OpenAPI.

::

    pool = Pool()
    app = FastAPI(lifespan=pool.lifespan)
    install(app, pool)

    @app.post("/score")
    async def score(text: str, pool: PoolDep) -> float:
        return await pool.run(score_text, text, timeout=2.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

try:
    from fastapi import Depends, FastAPI
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse
    from starlette.routing import BaseRoute
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
from lifepool.pool import Pool

MEDIA_TYPE = "application/problem+json"

#: What a route that uses the pool may answer besides its own answers, most likely first.
_DOCUMENTED: tuple[tuple[type[PoolError], str], ...] = (
    (QueueFull, "The pool is full, starting or shutting down; try again after Retry-After seconds."),
    (TaskTimeout, "The task passed its timeout."),
    (WorkerLost, "The task failed, or its worker died."),
    (PayloadTooLarge, "The data is too large for a task."),
)

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


def get_pool(connection: HTTPConnection) -> Pool:
    """The app's pool: from ``request.state.pool``, where the lifespan puts it, else from ``app.state.pool``.

    Raises:
        PoolClosed: If there is none, because the app's lifespan did not run.
    """
    pool = getattr(connection.state, "pool", None) or getattr(connection.app.state, "pool", None)
    if not isinstance(pool, Pool):
        raise PoolClosed("this app has no running pool", hint=NOT_STARTED_HINT)
    return pool


#: The pool as a parameter of a handler, for HTTP and WebSocket: ``async def handler(pool: PoolDep)``.
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
        "title": HTTPStatus(error.status_hint).phrase,
        "status": error.status_hint,
        "detail": _detail(error),
    }
    if error.hint:
        body["hint"] = error.hint
    if isinstance(error, QueueFull):
        body["retry_after"] = round(error.retry_after, 3)
    return body


def pool_responses() -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of a route that uses the pool, for ``@app.post(..., responses=pool_responses())``."""
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


def install(app: FastAPI, pool: Pool, *, is_documented: Callable[[BaseRoute], bool] | None = None) -> None:
    """Answer the pool's errors with problem+json, document that in OpenAPI, and let ``PoolDep`` find the pool.

    Args:
        app: The app.
        pool: Its pool. Its life is the lifespan's business: ``FastAPI(lifespan=pool.lifespan)``.
        is_documented: Which routes get the responses in their documentation; all by default. A response that a route
            documents itself is left alone.
    """
    app.state.pool = pool
    app.add_exception_handler(PoolError, _answer)
    original = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None
        schema = original()
        if fresh:
            _document(schema, app, is_documented)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way of extending the schema


async def _answer(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PoolError)  # noqa: S101 - registered for nothing else
    headers = {}
    if isinstance(error, QueueFull):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return JSONResponse(problem(error), error.status_hint, headers, MEDIA_TYPE)


def _detail(error: PoolError) -> str:
    if isinstance(error, InternalError):
        return "the pool has a bug; its log says more"
    if isinstance(error, WorkerStartError):
        return "no worker can be started; the log says why"
    return str(error.args[0]) if error.args else type(error).__name__


def _dashed(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


def _document(schema: dict[str, Any], app: FastAPI, is_documented: Callable[[BaseRoute], bool] | None) -> None:
    schema.setdefault("components", {}).setdefault("schemas", {}).setdefault("Problem", PROBLEM_SCHEMA)
    for route in app.routes:
        if is_documented is not None and not is_documented(route):
            continue
        path = schema.get("paths", {}).get(getattr(route, "path_format", None), {})
        for method in getattr(route, "methods", None) or ():
            operation = path.get(method.lower())
            if operation is not None:
                for status, response in pool_responses().items():
                    operation.setdefault("responses", {}).setdefault(str(status), response)
