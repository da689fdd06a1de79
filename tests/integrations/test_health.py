"""The probes answer in every state of a pool, and say why: on a real server, at saturation and at SIGTERM too."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from lifepool import InternalError, Pool, WorkerLost, WorkerStartError
from lifepool.instrumentation.prometheus import PrometheusHook
from lifepool.integrations.health import health_router, health_routes, reasons_against
from tests import tasks
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.instrumentation import site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def reasons(body: dict[str, Any]) -> list[str]:
    return [each["reason"] for each in body["reasons"]]


class Patient(uvicorn.Server):
    """A server that checks whether it is to stop only when the test lets it."""

    may_stop = False

    async def on_tick(self, counter: int) -> bool:
        return self.may_stop and await super().on_tick(counter)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[tuple[Patient, httpx.AsyncClient]]:
    """Run a real uvicorn on this loop, and yield a client with its address."""
    server = Patient(uvicorn.Config(app, port=0, log_config=None))
    running = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or running.done())
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, verify=False) as client:
            yield server, client
    finally:
        server.may_stop = server.should_exit = True
        await running


async def asked(app: Any, path: str) -> httpx.Response:
    """Return the answer of an app without a server, and without its lifespan."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)


async def test_all_three_answer_while_the_pool_is_full(gate: Gate) -> None:
    async with served(site.app) as (_, client):
        assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
        requests = [asyncio.create_task(client.get("/hold", params={"address": gate.address})) for _ in range(3)]
        visitor = await gate.arrival()
        await until(lambda: site.pool.statistics().queued == 2)
        refused = await asyncio.gather(*(client.get("/double") for _ in range(20)))
        assert {answer.status_code for answer in refused} == {503}
        live, ready, metrics = await asyncio.gather(*map(client.get, ("/livez", "/readyz", "/metrics")))
        assert (live.status_code, live.json()) == (200, {"status": "ok"})
        assert ready.status_code == 503
        assert ready.headers["cache-control"] == "no-store"
        (reason,) = ready.json()["reasons"]
        assert (reason["pool"], reason["reason"]) == ("site", "saturated")
        assert "all 2 positions in the queue are taken" in reason["detail"]
        assert 'lifepool_queue_length{pool="site"} 2.0' in metrics.text
        visitor.let_through()
        for _ in range(2):
            (await gate.arrival()).let_through()
        assert [(await request).status_code for request in requests] == [200, 200, 200]
        assert (await client.get("/readyz")).status_code == 200


async def test_at_sigterm_the_server_is_alive_and_not_ready(signals: list[int]) -> None:
    async with served(site.app) as (_, client):
        assert (await client.get("/readyz")).status_code == 200
        signal.raise_signal(signal.SIGTERM)
        ready, live = await client.get("/readyz"), await client.get("/livez")
        assert (ready.status_code, reasons(ready.json())) == (503, ["terminating"])
        assert live.status_code == 200


async def test_metrics_come_as_openmetrics_to_who_asks_for_them() -> None:
    async with served(site.app) as (_, client):
        plain = await client.get("/metrics")
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        opened = await client.get("/metrics", headers={"Accept": accept})
    assert plain.headers["content-type"].startswith("text/plain")
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")
    assert "# TYPE lifepool_tasks counter" in opened.text


async def test_before_during_and_after_its_life_a_pool_says_where_it_is(tmp_path: Path, gate: Gate) -> None:
    pool = Pool(max_workers=1)
    assert [each["reason"] for each in reasons_against(pool)] == ["created"]
    starting = asyncio.create_task(pool.start())
    await until(lambda: pool.state.value == "starting")
    assert [each["detail"] for each in reasons_against(pool)] == ["0 of 1 workers are ready"]
    await starting
    assert reasons_against(pool) == []
    task = pool.submit(tasks.hold, gate.address)
    visitor = await gate.arrival()
    draining = asyncio.create_task(pool.drain())
    await until(lambda: pool.state.value == "draining")
    assert reasons_against(pool)[0]["detail"] == "the pool finishes 1 running and 0 waiting tasks"
    visitor.let_through()
    await asyncio.gather(task, draining)
    assert [each["reason"] for each in reasons_against(pool)] == ["closed"]


async def test_a_crash_loop_is_red_and_says_nothing_to_strangers(tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    async with Pool(max_workers=1, initializer=tasks.fail_while_file_exists, initargs=(str(flag),)) as pool:
        flag.touch()
        with pytest.raises(WorkerLost):
            await pool.run(tasks.exit_hard, 3)
        await until(lambda: pool.readiness().reasons == ("crash-looping",))
        (reason,) = reasons_against(pool)
        with pytest.raises(WorkerStartError):
            await pool.run(tasks.double, 1)
        flag.unlink()
    assert reason["detail"] == "no worker can be started; the log says why"


async def test_a_pool_that_a_bug_has_broken_is_not_even_alive(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(backend="inline", name="b")
    app = Starlette(routes=health_routes(pool, metrics=False))
    async with pool:
        assert pool._engine is not None
        pool._engine._break(InternalError("the counters are wrong"))
        live, ready = await asked(app, "/livez"), await asked(app, "/readyz")
    assert (live.status_code, live.json()) == (503, {"status": "broken", "pools": ["b"]})
    assert reasons(ready.json()) == ["broken"]


async def test_a_pool_that_was_drained_while_its_server_goes_on_is_to_be_restarted(gate: Gate) -> None:
    drained, other = Pool(max_workers=1, name="drained"), Pool(backend="inline", name="other")
    app = Starlette(routes=health_routes(drained, other, metrics=False))

    async def live() -> tuple[int, Any]:
        answer = await asked(app, "/livez")
        return answer.status_code, answer.json()

    assert await live() == (200, {"status": "ok"}), "not started yet: its start may take long"
    async with drained, other:
        task = drained.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        draining = asyncio.create_task(drained.drain())
        await until(lambda: drained.state.value == "draining")
        assert await live() == (200, {"status": "ok"}), "what runs is to be finished"
        visitor.let_through()
        await asyncio.gather(task, draining)
        assert await live() == (503, {"status": "closed", "pools": ["drained"]})
        await drained.start()
        assert await live() == (200, {"status": "ok"})


async def test_at_the_end_of_the_server_a_closed_pool_is_no_reason_to_kill_it(signals: list[int]) -> None:
    pool = Pool(backend="inline")
    app = Starlette(routes=health_routes(pool, metrics=False))
    async with pool.lifespan(app):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: "terminating" in pool.readiness().reasons)
        await pool.drain()
        answer = await asked(app, "/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_two_pools_are_ready_together_and_each_has_one_hook() -> None:
    one, other = Pool(backend="inline", name="one"), Pool(backend="inline", name="other")
    own = PrometheusHook()
    one.add_hook(own)
    answer = await asked(Starlette(routes=health_routes(one, other)), "/readyz")
    assert [each["pool"] for each in answer.json()["reasons"]] == ["one", "other"]
    assert one.hooks == (own,)
    assert len(other.hooks) == 1


def test_without_metrics_there_are_only_the_probes() -> None:
    router = health_router(Pool(backend="inline"), metrics=False)
    assert [route.path for route in router.routes] == ["/livez", "/readyz"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"health_router\(pool\)"):
        health_router()


def test_without_the_extra_it_says_what_to_install_or_to_leave_out() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from lifepool import Pool\n"
        "from lifepool.integrations.health import health_router\n"
        "health_router(Pool(backend='inline'), metrics=False)\n"
        "health_router(Pool(backend='inline'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ, check=False
    )
    assert "pip install 'lifepool[prometheus]'; or leave /metrics out with metrics=False" in done.stderr
