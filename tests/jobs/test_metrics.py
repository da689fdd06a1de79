"""What Prometheus reads of jobs: the store's own numbers, whichever process is asked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client import CollectorRegistry

from lifepool import Pool
from lifepool.instrumentation.jobs import JOB_STATES
from lifepool.instrumentation.prometheus import PrometheusHook, exposition
from lifepool.jobs import Jobs, hook
from lifepool.jobs.hook import Recent, RunningJobs
from tests.engine.gates import Gate
from tests.instrumentation.scrapes import Scrape, check_metrics, scrape
from tests.integrations.serving import PATIENCE_S, serving
from tests.jobs import tasks
from tests.jobs.postgresql import DATABASE

if TYPE_CHECKING:
    from tests.jobs.postgresql import Server


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the store has said for a moment only."""
    monkeypatch.setattr(hook, "COUNTS_S", 0.05)
    monkeypatch.setattr(hook, "_REST", 0.0)


def watched(registry: CollectorRegistry) -> Pool:
    pool = Pool(max_workers=1, name="p")
    pool.add_hook(PrometheusHook(registry))
    return pool


async def read(registry: CollectorRegistry) -> Scrape:
    """Scrape as `/metrics` does, in a thread."""
    text, _ = await asyncio.to_thread(exposition, "", registry)
    return Scrape(text.decode())


def states(seen: Scrape) -> dict[str, float]:
    found = {state: seen.total("lifepool_jobs", pool="p", state=state) for state in JOB_STATES}
    return {state: value for state, value in found.items() if value}


async def fresh(jobs: Jobs, registry: CollectorRegistry, wanted: dict[str, float]) -> Scrape:
    """Scrape until the numbers, which are kept for two seconds, are these."""
    async with asyncio.timeout(PATIENCE_S):
        while states(seen := await read(registry)) != wanted:
            continue
    return seen


@pytest.mark.usefixtures("quickly")
async def test_jobs_are_counted_by_state_and_the_oldest_that_waits_has_its_age(store_url: str, promtool: str) -> None:
    registry = CollectorRegistry()
    with Gate() as gate:
        async with Jobs(watched(registry), store=store_url) as jobs:
            await jobs.wait((await jobs.submit(tasks.fail, "on purpose")).id)
            await jobs.submit(tasks.hold, gate.address)
            visitor = await gate.arrival()
            await jobs.submit(tasks.add, 1, 2, run_at=timedelta(hours=1))
            seen = await fresh(jobs, registry, {"failed": 1, "running": 1, "queued": 1})
            assert seen.value("lifepool_jobs_oldest_queued_seconds", pool="p") == 0, "it is not due yet"
            waits = await jobs.submit(tasks.add, 1, 2)
            seen = await fresh(jobs, registry, {"failed": 1, "running": 1, "queued": 2})
            async with asyncio.timeout(PATIENCE_S):
                while not (age := seen.total("lifepool_jobs_oldest_queued_seconds", pool="p")):
                    seen = await read(registry)
            assert 0 < age < PATIENCE_S
            assert seen.value("lifepool_jobs_store_up", pool="p") == 1
            assert check_metrics(promtool, seen.text) == ""
            visitor.let_through()
            await jobs.wait(waits.id, PATIENCE_S)
        assert "lifepool_jobs" not in (await read(registry)).text, "they have ended"


async def test_on_the_event_loop_a_scrape_waits_for_nothing(sqlite_url: str) -> None:
    registry = CollectorRegistry()
    async with Jobs(watched(registry), store=sqlite_url) as jobs:
        await jobs.submit(tasks.add, 1, 2, run_at=timedelta(hours=1))
        async with asyncio.timeout(PATIENCE_S):
            while states(seen := scrape(registry)) != {"queued": 1}:  # each begins a look that the next one shows
                await jobs.counts()
        assert seen.value("lifepool_jobs_store_up", pool="p") == 1


@pytest.mark.usefixtures("quickly")
async def test_a_store_that_can_not_be_reached_does_not_break_a_scrape(postgresql_server: Server) -> None:
    url = postgresql_server.new_store()
    registry = CollectorRegistry()

    def allow(allowed: str) -> None:
        with postgresql_server.connect() as connection:
            connection.execute(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS {allowed}")

    async with Jobs(watched(registry), store=url) as jobs:
        await jobs.submit(tasks.add, 1, 2, run_at=timedelta(hours=1))
        await fresh(jobs, registry, {"queued": 1})
        allow("false")
        try:
            postgresql_server.kill_connections()
            async with asyncio.timeout(PATIENCE_S):
                while (seen := await read(registry)).value("lifepool_jobs_store_up", pool="p"):
                    continue
        finally:
            allow("true")  # other tests use this database too
        assert "lifepool_jobs{" not in seen.text
        assert seen.value("lifepool_queue_length", pool="p") == 0, "all else is there"
        await fresh(jobs, registry, {"queued": 1})


async def test_processes_that_share_a_store_do_not_add_it_up(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("LIFEPOOL_JOBS_STORE", sqlite_url)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path_factory.mktemp("metrics")))
    with Gate() as gate, serving("tests.jobs.app:app", "--workers", "2") as server:
        async with asyncio.timeout(PATIENCE_S):
            transport = httpx.AsyncHTTPTransport(verify=False, retries=5)
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S, transport=transport) as http:
                await http.post("/hold", params={"address": gate.address, "value": 1})
                visitor = await gate.arrival()
                answered: set[int] = set()
                while len(answered) < 2:
                    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S, verify=False) as other:
                        pid = (await other.get("/pids")).json()[0]
                        seen = Scrape((await other.get("/metrics")).text)  # the same connection: the same process
                        if seen.total("lifepool_jobs", state="running") == 1:
                            answered.add(pid)
                            assert seen.total("lifepool_jobs") == 1
                            assert seen.total("lifepool_workers") >= 1, "the pools are still added up"
                visitor.let_through()


async def test_many_who_ask_at_once_ask_the_store_once(sqlite_url: str) -> None:
    asked = 0

    async def query() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return asked

    recent = Recent(query, 60.0)
    assert await asyncio.gather(*(recent.get() for _ in range(5))) == [1] * 5
    assert await recent.get() == 1
    async with Jobs(Pool(backend="inline"), store=sqlite_url) as jobs:
        assert jobs.pool is not None
        (found,) = jobs.pool.hooks
        assert isinstance(found, RunningJobs)
        assert (await found.overview()) is (await found.overview())
    assert jobs.pool.hooks == ()


def test_without_jobs_nothing_of_them_is_imported_or_exposed() -> None:
    program = """
import asyncio, sys
from fastapi import FastAPI
from lifepool import Pool
from lifepool.dashboard import dashboard
from lifepool.integrations.fastapi import install
from lifepool.integrations.health import health_router
from lifepool.instrumentation.prometheus import exposition

async def main():
    pool = Pool(backend="inline")
    app = FastAPI()
    install(app, pool)
    app.include_router(health_router(pool))
    app.mount("/pool", dashboard(pool))
    async with pool:
        await pool.run(len, "four")
        text, _ = exposition()
    assert b"lifepool_queue_length" in text and b"lifepool_jobs" not in text
    assert not [name for name in sys.modules if name.startswith("lifepool.jobs")]

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
