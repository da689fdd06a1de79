"""Sync `def` endpoints, which FastAPI calls in threads, reach the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI

from lifepool import ClientDisconnected, Pool, PoolDep, WorkerLost
from lifepool.integrations.fastapi import get_pool, install
from tests.engine.gates import until
from tests.integrations.clients import TestClient
from tests.integrations.site import a_site
from tests.tasks import double, exit_hard, hold

if TYPE_CHECKING:
    from tests.engine.gates import Gate
    from tests.integrations.site import Site


def an_app() -> FastAPI:
    app = FastAPI()
    install(app, Pool(max_workers=1))

    @app.get("/double/{number}")
    def doubled(number: int, pool: PoolDep) -> int:
        return pool.from_thread.run(double, number, timeout=20)

    @app.get("/crash")
    def crash(pool: PoolDep) -> None:
        pool.from_thread.run(exit_hard, 3)

    @app.get("/cancel/{number}")
    def cancel(number: int, pool: PoolDep) -> bool:
        return pool.cancel(number)

    @app.get("/statistics")
    def statistics(pool: PoolDep) -> dict[str, Any]:
        return {"completed": pool.statistics().completed, "ready": pool.readiness().ready}

    return app


def test_a_sync_endpoint_runs_tasks_and_its_errors_are_answers() -> None:
    with TestClient(an_app()) as client:
        assert client.get("/double/21").json() == 42
        answer = client.get("/crash")
        assert (answer.status_code, answer.json()["type"]) == (WorkerLost.status_hint, "urn:lifepool:worker-lost")
        assert client.get("/cancel/1").json() is False
        assert client.get("/double/4").json() == 8, "and the worker that replaced it is up"
        assert client.get("/statistics").json() == {"completed": 2, "ready": True}


async def test_a_client_that_leaves_a_sync_endpoint_takes_its_task_along(gate: Gate) -> None:
    def make(site: Site) -> FastAPI:
        app = FastAPI(lifespan=site.pool.lifespan)

        @app.get("/waiting")
        def waiting(pool: Pool = Depends(get_pool)) -> Any:  # noqa: B008
            try:
                return pool.from_thread.run(hold, site.gate.address)
            except ClientDisconnected as error:
                site.seen.append(error)
                raise

        return app

    async with a_site(gate, make) as site:
        await site.ask_and_leave("GET", "/waiting")
        await until(lambda: bool(site.seen))
        assert await site.is_well()
