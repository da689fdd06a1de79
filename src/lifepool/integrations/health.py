"""Answer load balancers and Prometheus: ``/livez``, ``/readyz``, ``/metrics``.

::

    app.include_router(health_router(pool))                     # FastAPI
    app = Starlette(routes=[*routes, *health_routes(pool)])     # Starlette

None of them waits for the pool: they answer also while every worker is busy and the queue is full.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import BaseRoute, Route
except ImportError as _error:  # pragma: no cover - needs an environment without Starlette
    raise ImportError("lifepool.integrations.health needs Starlette: pip install 'lifepool[fastapi]'") from _error

from lifepool.pool import Pool

if TYPE_CHECKING:
    from fastapi import APIRouter

_HEADERS = {"Cache-Control": "no-store"}


def health_router(*pools: Pool, metrics: bool = True) -> APIRouter:
    """Return the three routes as a router for ``app.include_router``; they stay out of the app's documentation.

    ``/livez``: 200 as long as the event loop answers, and no pool is broken by a bug or was drained for good while the
    server goes on: after that only a restart helps.

    ``/readyz``: 200 if this server should be sent requests, else 503, each time with the reasons as JSON:
    ``{"ready": false, "reasons": [{"pool": "domains", "reason": "saturated", "detail": "..."}]}``. Beside a 200 there
    may be ``"degraded"``, in the same form: what is wrong while the pool's other backend does the work.

    ``/metrics``: in Prometheus' text format, or as OpenMetrics if the request accepts that; of all server processes in
    multiprocess mode. A pool that has no ``PrometheusHook`` is given one.

    Args:
        *pools: The pools of this app, at least one.
        metrics: Whether there is ``/metrics``.

    Raises:
        ImportError: If there is no FastAPI; or no prometheus-client, and there should be metrics.
        ValueError: If no pool is given.
    """
    from fastapi import APIRouter

    return APIRouter(routes=health_routes(*pools, metrics=metrics))


def health_routes(*pools: Pool, metrics: bool = True) -> list[BaseRoute]:
    """Return the same routes for Starlette.

    Args:
        *pools: As for ``health_router``.
        metrics: As for ``health_router``.

    Raises:
        ImportError: If there is no prometheus-client, and there should be metrics.
        ValueError: If no pool is given.
    """
    if not pools:
        raise ValueError("health_router() needs at least one pool: health_router(pool)")

    async def livez(_: Request) -> Response:
        beyond_help = {pool.config.name: why for pool in pools if (why := _why_to_restart(pool)) is not None}
        if not beyond_help:
            return JSONResponse({"status": "ok"}, 200, _HEADERS)
        status = "broken" if "broken" in beyond_help.values() else "closed"
        return JSONResponse({"status": status, "pools": list(beyond_help)}, 503, _HEADERS)

    async def readyz(_: Request) -> Response:
        reasons = [reason for pool in pools for reason in reasons_against(pool)]
        answer: dict[str, object] = {"ready": not reasons, "reasons": reasons}
        if degraded := [each for pool in pools for each in _degraded(pool)]:
            answer["degraded"] = degraded
        return JSONResponse(answer, _code(not reasons), _HEADERS)

    routes: list[BaseRoute] = [
        Route("/livez", livez, include_in_schema=False),
        Route("/readyz", readyz, include_in_schema=False),
    ]
    return [*routes, _metrics_route(pools)] if metrics else routes


def _why_to_restart(pool: Pool) -> str | None:
    """Say why this pool will never take a task again, though its server was not asked to stop."""
    reasons = pool.readiness().reasons
    if "broken" in reasons:
        return "broken"
    return "closed" if "closed" in reasons and "terminating" not in reasons else None


def _code(well: bool) -> int:
    return 200 if well else 503


def _metrics_route(pools: tuple[Pool, ...]) -> Route:
    try:
        from lifepool.instrumentation.prometheus import PrometheusHook, exposition
    except ImportError as error:
        raise ImportError(f"{error}; or leave /metrics out with metrics=False") from error
    for pool in pools:
        if not any(isinstance(hook, PrometheusHook) for hook in pool.hooks):
            pool.add_hook(PrometheusHook())

    async def metrics(request: Request) -> Response:
        # In a thread: a registry may be large, and the files of many processes are read from the disk.
        text, content_type = await asyncio.to_thread(exposition, request.headers.get("accept", ""))
        return Response(text, headers={**_HEADERS, "Content-Type": content_type})

    return Route("/metrics", metrics, include_in_schema=False)


#: Why a pool with two backends is degraded.
_DEGRADED = {
    "breaker-open": "the cluster gets no tasks; this machine runs them",
    "crash-looping": "no worker of this machine can be started; the cluster runs tasks",
    "no-worker": "no worker of this machine is up; the cluster runs tasks",
}


def _degraded(pool: Pool) -> list[dict[str, str]]:
    name = pool.config.name
    return [{"pool": name, "reason": each, "detail": _DEGRADED[each]} for each in pool.readiness().degraded]


def reasons_against(pool: Pool) -> list[dict[str, str]]:
    """Return why this pool's server should be sent no requests, in words; empty if it should.

    Args:
        pool: The pool. A worker's traceback is not in the words: the answer may go to strangers.
    """
    numbers = pool.statistics()
    details = {
        "broken": "a bug in lifepool has stopped the pool; its log says more, and only a restart helps",
        "terminating": f"the server was asked to stop; {numbers.running} tasks run and {numbers.queued} wait",
        "created": "the pool was not started: is it in the app's lifespan?",
        "starting": f"{numbers.workers.get('ready', 0)} of {pool.config.min_workers} workers are ready",
        "draining": f"the pool finishes {numbers.running} running and {numbers.queued} waiting tasks",
        "closed": "the pool has ended",
        "crash-looping": "no worker can be started; the log says why",
        "no-worker": f"no worker is up: {numbers.workers.get('starting', 0)} of {numbers.max_workers} are starting, "
        f"and {numbers.queued} tasks wait",
        "saturated": f"all {pool.config.max_queue} positions in the queue are taken; a task submitted now would wait "
        f"{numbers.predicted_wait_s:.1f} s",
        "unreachable": "the cluster can't be reached, or has no nodes; the log says more",
    }
    name = pool.config.name
    return [{"pool": name, "reason": reason, "detail": details[reason]} for reason in pool.readiness().reasons]
