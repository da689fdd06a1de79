"""Jobs on a store, with a pool, for a test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from lifepool.jobs import Job, Jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_S = 30.0


@asynccontextmanager
async def running(url: str, *, real: bool = False, workers: int = 2, **options: Any) -> AsyncIterator[Jobs]:
    pool = Pool(max_workers=workers) if real else Pool(backend="inline")
    async with Jobs(pool, store=url, **options) as jobs:
        yield jobs


async def finished(jobs: Jobs, job: Job | str) -> Job:
    return await jobs.wait(job if isinstance(job, str) else job.id, PATIENCE_S)
