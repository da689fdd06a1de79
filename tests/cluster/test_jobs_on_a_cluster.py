"""Jobs whose pool is a cluster: they outlive their nodes, too."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool
from lifepool.jobs import Jobs, JobState
from tests import tasks
from tests.cluster.celery_redis import CeleryOnRedis
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.servers import RedisServer


@pytest.fixture
def celery(shared_redis: RedisServer) -> Iterator[CeleryOnRedis]:
    with CeleryOnRedis(shared_redis) as harness:
        yield harness


def where() -> int:
    return os.getpid()


async def test_a_job_runs_again_elsewhere_when_its_node_is_killed(
    celery: CeleryOnRedis, gate: Gate, tmp_path: Path
) -> None:
    doomed = await asyncio.to_thread(celery.start_node)
    async with Jobs(Pool(backend=celery.url), store=f"sqlite:///{tmp_path}/jobs.db") as jobs:
        first = await jobs.wait((await jobs.submit(where)).id, timeout=60)
        assert first.result != os.getpid()
        job = await jobs.submit(tasks.hold, gate.address, "done in the end")
        await gate.arrival()
        doomed.kill()
        await asyncio.to_thread(celery.start_node)
        visitor = await gate.arrival()
        visitor.let_through()
        ended = await jobs.wait(job.id, timeout=60)
        assert (ended.state, ended.result) == (JobState.SUCCEEDED, "done in the end")
        assert ended.attempts == 2


async def test_a_job_that_is_cancelled_is_broken_off_on_its_node(
    celery: CeleryOnRedis, gate: Gate, tmp_path: Path
) -> None:
    await asyncio.to_thread(celery.start_node)
    async with Jobs(Pool(backend=celery.url), store=f"sqlite:///{tmp_path}/jobs.db") as jobs:
        job = await jobs.submit(tasks.hold_in_c, gate.address)
        await gate.arrival()
        await jobs.cancel(job.id)
        ended = await jobs.wait(job.id, timeout=60)
        assert ended.state is JobState.CANCELLED
        assert (await jobs.wait((await jobs.submit(where)).id, timeout=60)).state is JobState.SUCCEEDED


async def test_a_client_that_disconnects_has_its_task_broken_off_on_its_node(celery: CeleryOnRedis, gate: Gate) -> None:
    from fastapi import FastAPI

    from lifepool.integrations.fastapi import install

    await asyncio.to_thread(celery.start_node)
    pool = Pool(backend=celery.url)
    app = FastAPI()
    install(app, pool)

    @app.get("/held")
    async def held() -> None:
        await pool.run(tasks.hold_in_c, gate.address)

    gone = asyncio.Event()
    asked = False

    async def receive() -> dict[str, object]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        """Take an answer that nobody reads."""

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/held", "raw_path": b"/held", "query_string": b"", "headers": [], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2), "root_path": "",
    }  # fmt: skip
    async with pool:
        request = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
        await gate.arrival()
        gone.set()
        await request
        await until(lambda: pool.statistics().cancelled == 1)
        assert await pool.run(tasks.double, 2, timeout=30) == 4  # the only slot of the node is free
