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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.servers import RedisServer
    from tests.engine.gates import Gate


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
