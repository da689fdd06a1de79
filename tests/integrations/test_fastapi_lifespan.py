"""Where a FastAPI app can put its pool, and that the pool lives exactly as long as the app."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse

from lifepool import Pool, PoolClosed, PoolDep
from lifepool.integrations.fastapi import get_pool, install
from tests.integrations.apps import connect
from tests.integrations.clients import TestClient
from tests.tasks import double

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def inline() -> Pool:
    return Pool(backend="inline")


def add_routes(app: FastAPI | APIRouter) -> None:
    @app.get("/double/{number}")
    async def doubled(number: int, pool: PoolDep) -> int:
        return await pool.run(double, number)

    @app.get("/state")
    async def states(request: Request) -> list[str]:
        return sorted(request.state._state)

    @app.websocket("/doubles")
    async def doubles(websocket: WebSocket, pool: PoolDep) -> None:
        await websocket.accept()
        async for number in websocket.iter_json():
            await websocket.send_json(await pool.run(double, number))


def get_large(request: Request) -> Pool:
    pool: Pool = request.state.large
    return pool


def an_app(**arguments: Any) -> FastAPI:
    app = FastAPI(**arguments)
    add_routes(app)
    return app


class Own:
    """An app's own lifespan, which notes what it sees of the pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.seen: list[str] = []

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        self.seen.append(self.pool.state.value)
        yield {"database": "db"}
        self.seen.append(self.pool.state.value)


# --- one way after the other ----------------------------------------------------------------------------------------


def test_the_pool_lives_as_long_as_the_app() -> None:
    pool = inline()
    with TestClient(an_app(lifespan=pool.lifespan)) as client:
        assert pool.state.value == "running"
        assert client.get("/double/21").json() == 42
        assert client.get("/state").json() == ["pool"]
    assert pool.state.value == "closed"


def test_a_real_worker_answers() -> None:
    pool = Pool(max_workers=1)
    with TestClient(an_app(lifespan=pool.lifespan)) as client:
        assert client.get("/double/21").json() == 42
    assert pool.statistics().completed == 1


def test_around_the_apps_own_lifespan_the_pool_is_up_first_and_ends_last() -> None:
    own = Own(inline())
    with TestClient(an_app(lifespan=own.pool.lifespan(own.lifespan))) as client:
        assert client.get("/state").json() == ["database", "pool"]
        assert client.get("/double/2").json() == 4
    assert own.seen == ["running", "running"]
    assert own.pool.state.value == "closed"


def test_inside_the_apps_own_lifespan_the_pool_is_entered_with_async_with() -> None:
    pool = inline()

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with pool:
            yield {"pool": pool}

    with TestClient(an_app(lifespan=own)) as client:
        assert client.get("/double/2").json() == 4
    assert pool.state.value == "closed"


def test_a_router_can_bring_the_pool() -> None:
    pool = inline()
    router = APIRouter(prefix="/text", lifespan=pool.lifespan)
    add_routes(router)
    app = FastAPI()
    app.include_router(router)
    with TestClient(app) as client:
        assert client.get("/text/double/2").json() == 4
    assert pool.state.value == "closed"


def test_a_mounted_app_sees_the_pool_of_the_outer_one() -> None:
    pool = inline()
    app = FastAPI(lifespan=pool.lifespan)
    app.mount("/inner", an_app())
    with TestClient(app) as client:
        assert client.get("/inner/double/2").json() == 4
        assert client.get("/inner/state").json() == ["pool"]


def test_a_pool_at_module_level_serves_one_test_client_after_another() -> None:
    pool = inline()
    app = an_app(lifespan=pool.lifespan)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/double/2").json() == 4
        assert pool.state.value == "closed"


def test_an_app_that_fails_to_start_ends_its_pool() -> None:
    pool = inline()

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        connect()
        yield

    with pytest.raises(ConnectionError, match="no database"), TestClient(an_app(lifespan=pool.lifespan(own))):
        pytest.fail("it started")
    assert pool.state.value == "closed"


# --- install() alone ------------------------------------------------------------------------------------------------


def test_install_starts_the_pool_with_the_app() -> None:
    pool = inline()
    app = FastAPI()
    install(app, pool)
    add_routes(app)
    with TestClient(app) as client:
        assert client.get("/double/2").json() == 4
        assert client.get("/state").json() == ["pool"]
    assert pool.state.value == "closed"


def test_install_goes_around_the_apps_own_lifespan() -> None:
    own = Own(inline())
    app = an_app(lifespan=own.lifespan)
    install(app, own.pool)
    with TestClient(app) as client:
        assert client.get("/state").json() == ["database", "pool"]
    assert own.seen == ["running", "running"]
    assert own.pool.state.value == "closed"


def test_install_and_the_lifespan_line_together_start_one_engine() -> None:
    own = Own(inline())
    app = an_app(lifespan=own.pool.lifespan(own.lifespan))
    install(app, own.pool)
    with TestClient(app) as client:
        assert client.get("/double/2").json() == 4
        assert own.pool.statistics().completed == 1
    assert own.seen == ["running", "running"]
    assert own.pool.state.value == "closed"


def test_install_keeps_startup_handlers_and_included_routers_working() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def of_router(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        seen.append("router")
        yield {"router": True}

    pool = inline()
    app = FastAPI()
    app.router.on_startup.append(lambda: seen.append("handler"))
    install(app, pool)
    router = APIRouter(lifespan=of_router)
    add_routes(router)
    app.include_router(router)
    with TestClient(app) as client:
        assert client.get("/state").json() == ["pool", "router"]
    assert sorted(seen) == ["handler", "router"]


def test_install_after_the_start_is_refused_since_it_would_change_nothing() -> None:
    app = an_app()
    with TestClient(app), pytest.raises(RuntimeError, match=r"call install\(app, pool\) where the app is made"):
        install(app, inline())


# --- a pool that nobody started -------------------------------------------------------------------------------------


def test_without_the_lifespan_an_installed_pool_answers_503_and_names_the_line_to_add() -> None:
    app = FastAPI()
    install(app, inline(), hints=True)
    add_routes(app)
    answer = TestClient(app).get("/double/2")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:lifepool:pool-closed"
    assert "start it with install(app, pool)" in answer.json()["hint"]
    assert "TestClient as a context manager" in answer.json()["hint"]


def test_without_the_lifespan_pool_dep_raises_an_error_that_names_the_line_to_add() -> None:
    app = an_app(lifespan=inline().lifespan)
    with pytest.raises(PoolClosed, match=r"FastAPI\(lifespan=pool.lifespan\)"):
        TestClient(app).get("/double/2")


# --- PoolDep --------------------------------------------------------------------------------------------------------


def test_pool_dep_works_in_a_websocket() -> None:
    app = an_app(lifespan=inline().lifespan)
    with TestClient(app) as client, client.websocket_connect("/doubles") as websocket:
        for number in (1, 2):
            websocket.send_json(number)
            assert websocket.receive_json() == 2 * number


def test_pool_dep_needs_no_thread_so_busy_ones_cannot_hold_it_up() -> None:
    @asynccontextmanager
    async def all_threads_busy(app: FastAPI) -> AsyncIterator[None]:
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        async with limiter:
            yield

    with TestClient(an_app(lifespan=inline().lifespan(all_threads_busy))) as client:
        assert client.get("/double/2").json() == 4


def test_pool_dep_can_be_overridden_in_a_test() -> None:
    app = an_app(lifespan=Pool(max_workers=1).lifespan)
    fake = inline()

    async def fake_pool() -> AsyncIterator[Pool]:
        async with fake:
            yield fake

    app.dependency_overrides[get_pool] = fake_pool
    with TestClient(app) as client:
        assert client.get("/double/2").json() == 4
    assert fake.statistics().completed == 1


def test_an_app_can_have_a_second_pool_with_a_dependency_of_its_own() -> None:
    small, large = inline(), inline()

    @asynccontextmanager
    async def second(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with large:
            yield {"large": large}

    app = FastAPI(lifespan=small.lifespan(second))

    @app.get("/")
    async def both(pool: PoolDep, big: Annotated[Pool, Depends(get_large)]) -> JSONResponse:
        return JSONResponse([pool is small, big is large, await big.run(double, 2)])

    with TestClient(app) as client:
        assert json.loads(client.get("/").content) == [True, True, 4]
