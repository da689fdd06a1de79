"""`with_pool` around apps that know lifespans, that know none, and that fail. The server's side is played here."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from lifepool import Pool, WorkerStartError
from lifepool.integrations.asgi import with_pool
from tests.integrations.apps import connect
from tests.tasks import double, fail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from starlette.requests import Request

    from lifepool.integrations.asgi import ASGIApp, Message, Receive, Scope, Send

PATIENCE_S = 20.0


class Server:
    """A server that speaks the lifespan protocol, with time limits."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self) -> Message:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        self._task = asyncio.ensure_future(self.app(scope, self._to_app.get, self._from_app.put))
        return await self._ask("lifespan.startup")

    async def stop(self) -> Message:
        return await self._ask("lifespan.shutdown")

    async def end(self) -> None:
        """End the lifespan: return, or raise what the app's lifespan raises."""
        await asyncio.wait_for(self._task, PATIENCE_S)
        assert self._from_app.empty(), "a message after the last one"

    async def _ask(self, kind: str) -> Message:
        self._to_app.put_nowait({"type": kind})
        return await asyncio.wait_for(self._from_app.get(), PATIENCE_S)

    async def __aenter__(self) -> Self:
        assert (await self.start())["type"] == "lifespan.startup.complete"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert (await self.stop())["type"] == "lifespan.shutdown.complete"
        await self.end()


def bare(*, raises: bool) -> ASGIApp:
    """Make an app without a lifespan: some raise for that scope, some return."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if raises:
                raise NotImplementedError(scope["type"])
            return
        result = await scope["state"]["pool"].run(double, 21)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % result})

    return app


async def get(app: ASGIApp) -> str:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.get("/")).text


@pytest.mark.parametrize("raises", [True, False])
async def test_an_app_without_a_lifespan_gets_the_pool(raises: bool) -> None:
    pool = Pool(backend="inline")
    app = with_pool(bare(raises=raises), pool)
    async with Server(app):
        assert pool.state.value == "running"
        assert await get(app) == "42"
    assert pool.state.value == "closed"


async def test_it_works_with_a_real_worker_and_can_be_started_again() -> None:
    app = with_pool(bare(raises=True), Pool(max_workers=1))
    for _ in range(2):
        async with Server(app):
            assert await get(app) == "42"


async def answer(request: Request) -> JSONResponse:
    return JSONResponse([await request.state.pool.run(double, 21), request.state.database])


async def test_the_apps_own_lifespan_runs_inside_the_pools() -> None:
    pool = Pool(backend="inline")
    seen: list[str] = []

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, str]]:
        seen.append(pool.state.value)
        yield {"database": "db"}
        seen.append(pool.state.value)

    app = with_pool(Starlette(routes=[Route("/", answer)], lifespan=own), pool)
    async with Server(app) as server:
        assert server.state == {"pool": pool, "database": "db"}

        async def as_the_server_does(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(server.state)}, receive, send)

        assert await get(as_the_server_does) == '[42,"db"]'
    assert seen == ["running", "running"]
    assert pool.state.value == "closed"


async def test_the_pool_is_closed_before_the_server_hears_of_the_end() -> None:
    pool = Pool(backend="inline")
    messages: list[str] = []
    async with Server(noting(with_pool(Starlette(), pool), pool, messages)):
        pass
    assert messages == ["lifespan.startup.complete while running", "lifespan.shutdown.complete while closed"]


@asynccontextmanager
async def no_database(app: Starlette) -> AsyncIterator[None]:
    connect()
    yield


async def test_an_app_that_fails_to_start_ends_the_pool_before_the_server_hears_of_it() -> None:
    pool = Pool(backend="inline")
    messages: list[str] = []
    inner = Starlette(lifespan=no_database)
    server = Server(noting(with_pool(inner, pool), pool, messages))
    message = await server.start()
    assert message["type"] == "lifespan.startup.failed"
    assert "no database" in message["message"]
    with pytest.raises(ConnectionError):
        await server.end()
    assert messages == ["lifespan.startup.failed while closed"]


async def test_an_app_that_fails_to_stop_ends_the_pool_all_the_same() -> None:
    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        yield
        raise ConnectionError("the database hung up")

    pool = Pool(backend="inline")
    messages: list[str] = []
    server = Server(noting(with_pool(Starlette(lifespan=own), pool), pool, messages))
    await server.start()
    assert (await server.stop())["type"] == "lifespan.shutdown.failed"
    with pytest.raises(ConnectionError):
        await server.end()
    assert messages == ["lifespan.startup.complete while running", "lifespan.shutdown.failed while closed"]


async def test_an_app_that_says_it_failed_and_returns_is_believed() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    pool = Pool(backend="inline")
    server = Server(with_pool(app, pool))
    assert (await server.start())["type"] == "lifespan.startup.failed"
    await server.end()
    assert pool.state.value == "closed"


async def test_a_worker_that_cannot_start_is_a_failed_startup_with_its_reason() -> None:
    pool = Pool(max_workers=1, initializer=fail, initargs=("no model",))
    server = Server(with_pool(Starlette(), pool))
    message = await server.start()
    assert message["type"] == "lifespan.startup.failed"
    assert "no model" in message["message"]
    with pytest.raises(WorkerStartError):
        await server.end()


async def test_the_name_in_the_state_can_be_chosen() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": ",".join(scope["state"]).encode()})

    wrapped = with_pool(app, Pool(backend="inline"), state_key="workers")
    async with Server(wrapped) as server:
        assert list(server.state) == ["workers"]
        assert await get(wrapped) == "workers"


def noting(app: ASGIApp, pool: Pool, messages: list[str]) -> ASGIApp:
    """Note the pool's state at the moment the server gets a message."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting_send(message: Message) -> None:
            messages.append(f"{message['type']} while {pool.state.value}")
            await send(message)

        await app(scope, receive, noting_send)

    return wrapped
