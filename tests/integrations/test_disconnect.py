"""A client that goes away takes along the tasks that its request waits for, and no others: on a real server."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import uvicorn
from fastapi import BackgroundTasks, Body, Depends, FastAPI, Form, Request, WebSocket
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from websockets.asyncio.client import connect

from lifepool import ClientDisconnected, Pool, PoolDep
from lifepool.integrations.disconnect import RequestScope, WatchClients, watch_client
from lifepool.integrations.fastapi import get_pool, install
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.tasks import double, hold, hold_in_c, hold_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.responses import Response

    from lifepool import TaskHandle


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
    async def held(pool: Pool) -> Any:
        try:
            return await pool.run(hold, site.gate.address, "finished")
        except ClientDisconnected as error:
            site.seen.append(error)
            raise

    @app.get("/held")
    async def get(pool: Pool = the_pool) -> Any:
        return await held(pool)

    @app.post("/held")
    async def post(more: Annotated[dict[str, str] | None, Body()] = None, pool: Pool = the_pool) -> Any:
        return await held(pool)

    @app.post("/form")
    async def form(name: Annotated[str, Form()], pool: Pool = the_pool) -> Any:
        return await held(pool)

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
        {"method": "GET", "path": "/held"},
        {"method": "POST", "path": "/held"},
        {"method": "POST", "path": "/held", "content_type": "application/json", "body": b'{"a": "b"}'},
        {"method": "POST", "path": "/form", "content_type": "application/x-www-form-urlencoded", "body": b"name=a"},
    ],
    ids=["GET", "POST-empty", "POST-json", "POST-form"],
)


# --- what is aborted ------------------------------------------------------------------------------------------------


@EITHER_POOL
@WITH_AND_WITHOUT_MIDDLEWARE
@REQUESTS
async def test_a_client_that_leaves_takes_its_running_task_along(
    gate: Gate, make: Callable[[Site], FastAPI], wrappers: tuple[Any, ...], request_line: dict[str, Any]
) -> None:
    async with a_site(gate, make, *wrappers) as site:
        client = await site.ask(**request_line)
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        await until(lambda: bool(site.seen))
        assert isinstance(site.seen[0], ClientDisconnected)
        assert await site.is_well()
        statistics = site.pool.statistics()
        assert (statistics.cancelled, statistics.lost, statistics.failed) == (1, 0, 0)


@EVERY_WAY
@pytest.mark.parametrize("wrappers", [(), (pass_on,)], ids=len)
async def test_a_client_that_leaves_takes_its_queued_task_along_and_nobody_elses(
    gate: Gate, make: Callable[[Site], FastAPI], wrappers: tuple[Any, ...]
) -> None:
    async with a_site(gate, make, *wrappers) as site:
        stays = await site.ask("GET", "/held")
        visitor = await gate.arrival()
        leaves = await site.ask("GET", "/held")
        await until(lambda: site.pool.statistics().queued == 1)
        await leaves.leave()
        await until(lambda: site.pool.statistics().queued == 0)
        assert site.pool.statistics().cancelled == 1
        visitor.let_through()
        assert await stays.answer() == b'"finished"'
        await stays.leave()
        assert gate.nobody_came()


async def test_a_task_that_no_interrupt_reaches_costs_its_worker_which_is_replaced(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.get("/hung")
        async def hung(pool: PoolDep) -> None:
            await pool.run(hold_in_c, gate.address)

        return app

    async with a_site(gate, make) as site:
        client = await site.ask("GET", "/hung")
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        assert await site.pool.run(os.getpid) != visitor.pid
        assert site.pool.statistics().cancelled == 1


async def test_all_tasks_of_a_request_go_and_so_do_those_that_it_submits_afterwards(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.get("/many")
        async def many(pool: PoolDep) -> None:
            items = [(gate.address, n) for n in range(5)]
            site.seen += [await pool.gather(hold_one, items, chunksize=1, return_exceptions=True)]
            site.seen += await asyncio.gather(pool.run(double, 1), return_exceptions=True)

        return app

    async with a_site(gate, make) as site:
        client = await site.ask("GET", "/many")
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        await until(lambda: len(site.seen) == 2)
        many, later = site.seen
        assert all(isinstance(error, ClientDisconnected) for error in [*many, later])
        assert await site.is_well()


# --- what is not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrappers", [(), (pass_on,)], ids=len)
async def test_what_is_left_to_a_background_task_outlives_the_client(gate: Gate, wrappers: tuple[Any, ...]) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        async def keep(handle: TaskHandle[Any]) -> None:
            site.seen += [await handle, await site.pool.run(hold, gate.address, "submitted there")]

        @app.get("/later")
        async def later(background: BackgroundTasks, pool: PoolDep) -> str:
            background.add_task(keep, pool.submit(hold, gate.address, "left behind"))
            return "soon"

        return app

    async with a_site(gate, make, *wrappers) as site:
        client = await site.ask("GET", "/later")
        assert await client.answer() == b'"soon"'
        await client.leave()
        await site.noticed_that_all_clients_left()
        for _ in range(2):
            (await gate.arrival()).let_through()
        await until(lambda: len(site.seen) == 2)
        assert site.seen == ["left behind", "submitted there"]
        assert site.pool.statistics().cancelled == 0


async def test_a_coroutine_that_goes_on_after_the_handler_has_its_tasks_to_itself(gate: Gate) -> None:
    answered = asyncio.Event()

    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        async def go_on() -> None:
            await answered.wait()
            site.seen.append(await site.pool.run(hold, gate.address, "in its own time"))

        @app.get("/spawn")
        async def spawn(pool: PoolDep) -> str:
            site.seen.append(asyncio.ensure_future(go_on()))
            return "spawned"

        return app

    async with a_site(gate, make) as site:
        client = await site.ask("GET", "/spawn")
        assert await client.answer() == b'"spawned"'
        await client.leave()
        await site.noticed_that_all_clients_left()
        answered.set()
        (await gate.arrival()).let_through()
        await site.seen[0]
        assert site.seen[1] == "in its own time"


@pytest.mark.parametrize("wrappers", [(), (pass_on,)], ids=len)
async def test_a_handler_that_streams_its_body_gets_all_of_it(gate: Gate, wrappers: tuple[Any, ...]) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.post("/stream")
        async def stream(request: Request, pool: PoolDep) -> int:
            total = 0
            async for piece in request.stream():
                total += await pool.run(len, piece)
                site.seen.append(piece)
            return total

        return app

    async with a_site(gate, make, *wrappers) as site:
        client = await site.ask("POST", "/stream")  # Content-Length: 0
        assert await client.answer() == b"0"
        client.send(b"POST /stream HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        for sent in range(1, 4):
            client.send(b"3\r\nabc\r\n")
            await until(lambda sent=sent: site.seen.count(b"abc") == sent)  # type: ignore[misc]
        client.send(b"0\r\n\r\n")
        assert await client.answer() == b"9"
        await client.leave()
        assert site.pool.statistics().cancelled == 0


async def test_after_its_stream_has_ended_a_handler_is_watched_like_any_other(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.post("/stream")
        async def stream(request: Request, pool: PoolDep) -> None:
            assert b"".join([piece async for piece in request.stream()]) == b"abc"
            await pool.run(hold, gate.address)

        return app

    async with a_site(gate, make) as site:
        client = await site.ask("POST", "/stream", content_type="text/plain", body=b"abc")
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        await until(lambda: site.pool.statistics().cancelled == 1)


@pytest.mark.parametrize("wrappers", [(), (pass_on,)], ids=len)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_empty_body_can_still_be_read_after_a_task(gate: Gate, method: str, wrappers: tuple[Any, ...]) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.api_route("/late", methods=["GET", "POST"])
        async def late(request: Request, pool: PoolDep) -> int:
            await pool.run(double, 1)
            return len(await request.body())

        return app

    async with a_site(gate, make, *wrappers) as site:
        client = await site.ask(method, "/late")
        assert await client.answer() == b"0"
        await client.leave()


@pytest.mark.parametrize("wrappers", [(), (pass_on,)], ids=len)
async def test_an_empty_body_can_be_read_while_the_client_is_watched(gate: Gate, wrappers: tuple[Any, ...]) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.get("/meanwhile")
        async def meanwhile(request: Request, pool: PoolDep) -> Any:
            handle = pool.submit(hold, gate.address, "finished")
            site.seen += [len(await request.body()), await request.is_disconnected()]
            return await handle

        return app

    async with a_site(gate, make, *wrappers) as site:
        client = await site.ask("GET", "/meanwhile")
        visitor = await gate.arrival()
        await until(lambda: site.seen == [0, False])
        visitor.let_through()
        assert await client.answer() == b'"finished"'
        await client.leave()


@pytest.mark.parametrize("wrappers", [(), (pass_on,)], ids=len)
async def test_a_handler_can_ask_whether_its_client_is_gone(gate: Gate, wrappers: tuple[Any, ...]) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.post("/asks")
        async def asks(request: Request, pool: PoolDep, more: Annotated[dict[str, str], Body()]) -> None:
            await asyncio.wait([pool.submit(hold, gate.address)])
            site.seen += [await request.is_disconnected(), await request.is_disconnected()]

        return app

    async with a_site(gate, make, *wrappers) as site:
        client = await site.ask("POST", "/asks", content_type="application/json", body=b"{}")
        await gate.arrival()
        await client.leave()
        await until(lambda: site.seen == [True, True])


async def test_a_websocket_works_as_ever(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.websocket("/doubles")
        async def doubles(websocket: WebSocket, pool: PoolDep) -> None:
            await websocket.accept()
            async for number in websocket.iter_json():
                await websocket.send_json(await pool.run(double, number))
            site.seen.append("heard of the end")

        return app

    async with a_site(gate, make) as site:
        async with connect(f"ws://127.0.0.1:{site.port}/doubles") as socket:
            for number in ("1", "21"):
                await socket.send(number)
                async with asyncio.timeout(PATIENCE_S):
                    assert int(await socket.recv()) == 2 * int(number)
        await until(lambda: site.seen == ["heard of the end"])
        assert site.pool.statistics().cancelled == 0


# --- what it costs --------------------------------------------------------------------------------------------------


@WITH_AND_WITHOUT_MIDDLEWARE
async def test_a_request_that_is_answered_leaves_nothing_on_the_loop(gate: Gate, wrappers: tuple[Any, ...]) -> None:
    def make(site: Site) -> FastAPI:
        app = own_pool_of(site)

        @app.get("/double/{number}")
        async def doubled(number: int, pool: PoolDep) -> int:
            return await pool.run(double, number)

        return app

    async with a_site(gate, make, *wrappers) as site:
        client = await site.ask("GET", "/double/1")
        assert await client.answer() == b"2"
        before = asyncio.all_tasks()
        for number in range(20):  # on the same connection: its client is there all the time
            client.send(f"GET /double/{number} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            assert await client.answer() == str(2 * number).encode()
        await until(lambda: len(asyncio.all_tasks()) <= len(before))
        await client.leave()
        assert site.pool.statistics().cancelled == 0


# --- in an app with install, without a dependency ---------------------------------------------------------------------


async def test_a_middleware_of_the_users_own_may_be_inside_or_outside(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = FastAPI()
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)  # inside; `a_site` puts one outside
        install(app, site.pool)
        return with_handlers(app, site, Depends(lambda: site.pool))

    async with a_site(gate, make, pass_on) as site:
        client = await site.ask("POST", "/held", content_type="application/json", body=b"{}")
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        await until(lambda: bool(site.seen))


async def test_a_task_from_before_the_end_of_the_body_is_watched_from_then_on(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = an_app(site)

        @app.post("/stream")
        async def stream(request: Request) -> None:
            handle = site.pool.submit(hold, gate.address)
            assert b"".join([piece async for piece in request.stream()]) == b"abc"
            await handle

        return app

    async with a_site(gate, make) as site:
        client = await site.ask("POST", "/stream", content_type="text/plain", body=b"abc")
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        await until(lambda: site.pool.statistics().cancelled == 1)


async def test_a_task_that_is_to_go_on_is_abandoned_not_interrupted(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = an_app(site)

        @app.get("/goes-on")
        async def goes_on() -> None:
            await site.pool.run(hold, gate.address, on_cancel="abandon")

        return app

    async with a_site(gate, make) as site:
        client = await site.ask("GET", "/goes-on")
        visitor = await gate.arrival()
        await client.leave()
        await until(lambda: site.pool.statistics().cancelled == 1)
        visitor.let_through()
        assert await site.is_well()
        assert site.pool.statistics().restarts == {}


async def test_a_response_that_streams_can_use_the_pool_and_ends_with_its_client(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = an_app(site)

        @app.get("/numbers")
        async def numbers() -> StreamingResponse:
            site.seen.append(await site.pool.run(double, 1))  # the client is watched, and not any more afterwards

            async def pieces() -> AsyncIterator[bytes]:
                yield b"%d" % await site.pool.run(double, 2)
                try:
                    await site.pool.run(hold, gate.address)
                finally:
                    site.seen.append("ended")

            return StreamingResponse(pieces())

        return app

    async with a_site(gate, make) as site:
        client = await site.ask("GET", "/numbers")
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        await until(lambda: site.seen == [2, "ended"])


async def test_the_middleware_works_in_an_app_of_starlettes(gate: Gate) -> None:
    def make(site: Site) -> Any:
        async def held(request: Request) -> JSONResponse:
            return JSONResponse(await site.pool.run(hold, gate.address))

        middleware = [Middleware(WatchClients)]
        return Starlette(routes=[Route("/held", held)], middleware=middleware, lifespan=site.pool.lifespan)

    async with a_site(gate, make) as site:
        client = await site.ask("GET", "/held")
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        await until(lambda: site.pool.statistics().cancelled == 1)


async def test_a_mounted_app_with_the_same_pool_is_watched_once(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        outer = an_app(site)
        outer.mount("/inner", global_pool_of(site))
        return outer

    async with a_site(gate, make) as site:
        client = await site.ask("GET", "/inner/held")
        visitor = await gate.arrival()
        await client.leave()
        await visitor.gone()
        await until(lambda: bool(site.seen))


# --- servers that are not uvicorn -----------------------------------------------------------------------------------


def an_http_scope(http_version: str = "1.1", method: str = "POST") -> Any:
    return {"type": "http", "http_version": http_version, "method": method, "path": "/", "headers": []}


@pytest.mark.parametrize(("method", "watched"), [("POST", False), ("GET", True)])
async def test_a_body_of_http2_that_was_not_announced_is_left_to_the_handler(method: str, watched: bool) -> None:
    asked = asyncio.Event()

    async def receive() -> Any:
        asked.set()
        await asyncio.get_running_loop().create_future()

    async with Pool(backend="inline") as pool:
        scope = RequestScope(an_http_scope("2", method), receive)
        scope.add(pool.submit(double, 1))
        await asyncio.sleep(0)
        assert asked.is_set() is watched
        await scope.close()


async def test_a_server_whose_connection_breaks_is_no_error_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    async def receive() -> Any:
        raise RuntimeError("no more messages")

    async with Pool(backend="inline") as pool:
        scope = RequestScope(an_http_scope(), receive)
        request = Request(an_http_scope(), scope.receive)
        handle = pool.submit(double, 21)
        scope.add(handle)
        with pytest.raises(ClientDisconnect):
            await request.body()
        await scope.close()
        assert await handle == 42
    assert "no more messages" in caplog.text


async def test_a_body_that_is_repeated_for_ever_is_asked_for_once(gate: Gate) -> None:
    """Middleware that has read the body may hand it out to whoever asks; nothing comes of watching that."""
    asked = []

    async def receive() -> Any:
        asked.append(1)
        return {"type": "http.request", "body": b"abc", "more_body": False}

    async with Pool(max_workers=1) as pool:
        scope = RequestScope(an_http_scope(), receive)
        assert (await scope.receive())["body"] == b"abc"
        handle = pool.submit(hold, gate.address, "finished")
        scope.add(handle)
        visitor = await gate.arrival()
        assert len(asked) == 2
        visitor.let_through()
        assert await handle == "finished"
        await scope.close()


async def test_a_handler_that_waits_for_a_message_when_the_response_begins_goes_on_waiting() -> None:
    """As a streaming response does: it listens for the end beside what it sends."""
    messages: asyncio.Queue[Any] = asyncio.Queue()

    async with Pool(backend="inline") as pool:
        scope = RequestScope(an_http_scope(method="GET"), messages.get)
        scope.add(pool.submit(double, 1))
        listening = asyncio.ensure_future(scope.receive())
        await asyncio.sleep(0)
        await scope.close()
        messages.put_nowait({"type": "http.disconnect"})
        assert (await listening)["type"] == "http.disconnect"
        assert (await scope.receive())["type"] == "http.disconnect", "as often as it is asked"
