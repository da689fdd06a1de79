"""What a handler, a server or middleware does with a body, while its client is watched: nothing is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import BackgroundTasks, Body, FastAPI, Request, WebSocket
from starlette.requests import ClientDisconnect
from websockets.asyncio.client import connect

from lifepool import Pool, PoolDep
from lifepool.integrations.request_scope import RequestScope
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.tasks import double, hold

if TYPE_CHECKING:
    from lifepool import TaskHandle


from tests.integrations.site import (
    Site,
    a_site,
    own_pool_of,
    pass_on,
)

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
        await site.ask_and_leave("POST", "/stream", content_type="text/plain", body=b"abc")
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
