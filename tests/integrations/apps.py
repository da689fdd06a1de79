"""Apps that the tests run under a real server."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from lifepool import Pool, PoolDep
from lifepool.integrations.asgi import with_pool
from lifepool.integrations.fastapi import install
from lifepool.integrations.health import health_router
from tests.tasks import exit_hard, hang_while_loading, hold, hold_in_c

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from lifepool.integrations.asgi import Receive, Scope, Send

pool = Pool(max_workers=2)
app = FastAPI()
install(app, pool)
app.include_router(health_router(pool, metrics=False))


@app.get("/leave")
async def leave(address: str, pool: PoolDep) -> str:
    """Submit a task and answer without waiting for it."""
    handle = pool.submit(hold, address, "finished")
    handle.add_done_callback(lambda handle: print("left:", handle.exception() or handle.result(), flush=True))
    return "left"


@app.get("/pids")
async def pids(pool: PoolDep) -> list[int]:
    """Return the server process and one of its workers."""
    return [os.getpid(), await pool.run(os.getpid)]


@app.get("/hold")
async def waiting(address: str, pool: PoolDep) -> Any:
    return await pool.run(hold, address, "finished")


@app.get("/hang")
async def hung(address: str, pool: PoolDep) -> Any:
    return await pool.run(hold_in_c, address)


@app.get("/crash")
async def crash(pool: PoolDep) -> Any:
    return await pool.run(exit_hard, 3)


# --- without FastAPI ------------------------------------------------------------------------------------------------


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as an ASGI app that knows no lifespan."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    worker = await scope["state"]["pool"].run(os.getpid)
    await JSONResponse([os.getpid(), worker])(scope, receive, send)


bare_app = with_pool(bare, pool)


@asynccontextmanager
async def own_lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    print(f"own begins, pool {pool.state.value}", flush=True)
    yield {"database": "db"}
    print(f"own ends, pool {pool.state.value}", flush=True)


async def starlette_pids(request: Request) -> JSONResponse:
    assert request.state.database == "db"
    return JSONResponse([os.getpid(), await request.state.pool.run(os.getpid)])


starlette_app = with_pool(Starlette(routes=[Route("/pids", starlette_pids)], lifespan=own_lifespan), pool)


def connect() -> None:
    raise ConnectionError("no database")


@asynccontextmanager
async def failing_lifespan(app: Starlette) -> AsyncIterator[None]:
    print(f"workers: {await pool.run(os.getpid)}", flush=True)
    connect()
    yield


failing_app = FastAPI(lifespan=failing_lifespan)
install(failing_app, pool)
failing_wrapped_app = with_pool(Starlette(lifespan=failing_lifespan), pool)


def load_for_ever() -> None:
    print("loading", flush=True)
    hang_while_loading()


hanging_app = FastAPI()
install(hanging_app, Pool(max_workers=1, initializer=load_for_ever))
