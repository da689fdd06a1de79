"""A server in this process, and clients whose connections a test controls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import uvicorn
from fastapi import Body, Depends, FastAPI, Form, Request
from starlette.middleware.base import BaseHTTPMiddleware

from lifepool import ClientDisconnected, Pool
from lifepool.integrations.disconnect import watch_client
from lifepool.integrations.fastapi import get_pool, install
from tests.engine.gates import PATIENCE_S, Gate, Visitor, until
from tests.tasks import double, hold

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.responses import Response


@dataclass
class Site:
    """A server in this process, its pool of one worker, and what its handlers put on record."""

    app: FastAPI
    pool: Pool
    gate: Gate
    seen: list[Any] = field(default_factory=list)
    port: int = 0
    server: uvicorn.Server | None = None

    async def ask(self, method: str, path: str, *, content_type: str = "", body: bytes = b"") -> Client:
        """Connect and send a request; the answer is the caller's to read."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        client.send(f"{method} {path} HTTP/1.1\r\nHost: test\r\n{kind}{length}\r\n".encode() + body)
        return client

    async def ask_and_leave(self, method: str, path: str, *, content_type: str = "", body: bytes = b"") -> Visitor:
        """Send a request, leave once its task runs, and wait until the task is gone."""
        client = await self.ask(method, path, content_type=content_type, body=body)
        visitor = await self.gate.arrival()
        await client.leave()
        await visitor.gone()
        return visitor

    async def is_well(self) -> bool:
        """Tell whether the one worker, or its successor, answers."""
        return await self.pool.run(double, 21) == 42

    async def noticed_that_all_clients_left(self) -> None:
        assert self.server is not None
        connections = self.server.server_state.connections
        await until(lambda: not connections)


@dataclass
class Client:
    """One connection under the test's control: what goes over it when, and when it ends."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def answer(self) -> bytes:
        """Return the body of the next answer."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
            return await self.reader.readexactly(int(length.partition(":")[2]))


async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    return await call_next(request)


def an_app(site: Site) -> FastAPI:
    app = FastAPI()
    install(app, site.pool)
    return app


def own_pool_of(site: Site) -> FastAPI:
    """Make handlers that take the pool as a dependency, which is what `PoolDep` is short for."""
    return with_handlers(an_app(site), site, Depends(get_pool))


def global_pool_of(site: Site) -> FastAPI:
    """Make handlers that use the global pool, in an app that it was installed in."""
    return with_handlers(an_app(site), site, Depends(lambda: site.pool))


def pool_dep_without_install(site: Site) -> FastAPI:
    return with_handlers(FastAPI(lifespan=site.pool.lifespan), site, Depends(get_pool))


def global_pool_without_install(site: Site) -> FastAPI:
    """Make handlers that use the global pool, in an app whose dependency watches clients."""
    app = FastAPI(lifespan=site.pool.lifespan, dependencies=[Depends(watch_client, scope="function")])
    return with_handlers(app, site, Depends(lambda: site.pool))


def with_handlers(app: FastAPI, site: Site, the_pool: Any) -> FastAPI:
    async def waiting(pool: Pool) -> Any:
        try:
            return await pool.run(hold, site.gate.address, "finished")
        except ClientDisconnected as error:
            site.seen.append(error)
            raise

    @app.get("/waiting")
    async def get(pool: Pool = the_pool) -> Any:
        return await waiting(pool)

    @app.post("/waiting")
    async def post(more: Annotated[dict[str, str] | None, Body()] = None, pool: Pool = the_pool) -> Any:
        return await waiting(pool)

    @app.post("/form")
    async def form(name: Annotated[str, Form()], pool: Pool = the_pool) -> Any:
        return await waiting(pool)

    return app


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[None]:
    """Run a uvicorn on this event loop, so that the test sees the pool from inside."""
    config = uvicorn.Config(
        site.app, port=0, log_config=None, lifespan="on", ws="websockets-sansio", timeout_graceful_shutdown=5
    )
    server = site.server = uvicorn.Server(config)
    serves = asyncio.ensure_future(server.serve())
    try:
        await until(lambda: server.started or serves.done())
        site.port = server.servers[0].sockets[0].getsockname()[1]
        yield
    finally:
        server.should_exit = True
        await serves


@asynccontextmanager
async def a_site(gate: Gate, make: Callable[[Site], FastAPI] = own_pool_of, *wrappers: Any) -> AsyncIterator[Site]:
    site = Site(FastAPI(), Pool(max_workers=1), gate)
    site.app = make(site)
    for dispatch in wrappers:
        site.app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    async with serving(site):
        yield site


EITHER_POOL = pytest.mark.parametrize("make", [own_pool_of, global_pool_of])
EVERY_WAY = pytest.mark.parametrize(
    "make", [own_pool_of, global_pool_of, pool_dep_without_install, global_pool_without_install]
)
WITH_AND_WITHOUT_MIDDLEWARE = pytest.mark.parametrize("wrappers", [(), (pass_on,), (pass_on, pass_on)], ids=len)
REQUESTS = pytest.mark.parametrize(
    "request_line",
    [
        {"method": "GET", "path": "/waiting"},
        {"method": "POST", "path": "/waiting"},
        {"method": "POST", "path": "/waiting", "content_type": "application/json", "body": b'{"a": "b"}'},
        {"method": "POST", "path": "/form", "content_type": "application/x-www-form-urlencoded", "body": b"name=a"},
    ],
    ids=["GET", "POST-empty", "POST-json", "POST-form"],
)
