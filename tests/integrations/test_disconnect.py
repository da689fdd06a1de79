"""A client that goes away takes along the tasks that its request waits for, and no others: on a real server."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from lifepool import ClientDisconnected, PoolDep
from lifepool.integrations.disconnect import WatchClients
from lifepool.integrations.fastapi import install
from tests.engine.gates import Gate, until
from tests.tasks import double, hold, hold_in_c, hold_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


from tests.integrations.site import (
    EITHER_POOL,
    EVERY_WAY,
    REQUESTS,
    WITH_AND_WITHOUT_MIDDLEWARE,
    Site,
    a_site,
    an_app,
    global_pool_of,
    own_pool_of,
    pass_on,
    with_handlers,
)

# --- what is aborted ------------------------------------------------------------------------------------------------


@EITHER_POOL
@WITH_AND_WITHOUT_MIDDLEWARE
@REQUESTS
async def test_a_client_that_leaves_takes_its_running_task_along(
    gate: Gate, make: Callable[[Site], FastAPI], wrappers: tuple[Any, ...], request_line: dict[str, Any]
) -> None:
    async with a_site(gate, make, *wrappers) as site:
        await site.ask_and_leave(**request_line)
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
        stays = await site.ask("GET", "/waiting")
        visitor = await gate.arrival()
        leaves = await site.ask("GET", "/waiting")
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
        visitor = await site.ask_and_leave("GET", "/hung")
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
        await site.ask_and_leave("GET", "/many")
        await until(lambda: len(site.seen) == 2)
        many, later = site.seen
        assert all(isinstance(error, ClientDisconnected) for error in [*many, later])
        assert await site.is_well()


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
        await site.ask_and_leave("POST", "/waiting", content_type="application/json", body=b"{}")
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
        await site.ask_and_leave("POST", "/stream", content_type="text/plain", body=b"abc")
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
        await site.ask_and_leave("GET", "/numbers")
        await until(lambda: site.seen == [2, "ended"])


async def test_the_middleware_works_in_an_app_of_starlettes(gate: Gate) -> None:
    def make(site: Site) -> Any:
        async def waiting(request: Request) -> JSONResponse:
            return JSONResponse(await site.pool.run(hold, gate.address))

        middleware = [Middleware(WatchClients)]
        return Starlette(routes=[Route("/waiting", waiting)], middleware=middleware, lifespan=site.pool.lifespan)

    async with a_site(gate, make) as site:
        await site.ask_and_leave("GET", "/waiting")
        await until(lambda: site.pool.statistics().cancelled == 1)


async def test_a_mounted_app_with_the_same_pool_is_watched_once(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        outer = an_app(site)
        outer.mount("/inner", global_pool_of(site))
        return outer

    async with a_site(gate, make) as site:
        await site.ask_and_leave("GET", "/inner/waiting")
        await until(lambda: bool(site.seen))
