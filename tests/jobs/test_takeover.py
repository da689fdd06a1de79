"""A server is killed while it runs a job: another one runs it, within the time that is promised."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lifepool import Pool
from lifepool.jobs import Jobs
from tests.engine.gates import Gate
from tests.jobs import tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
#: Longer than the test waits: what is seen is not the end of the lease.
LONG_LEASE_S = 1000.0
#: Of the server that takes over: it looks after others five times in that, and a busy machine must not stop it so long.
OWN_LEASE_S = 5.0


@asynccontextmanager
async def server(url: str, lease: float) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "tests.jobs.server", url, str(lease)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_server_that_starts_takes_over_the_jobs_of_a_dead_one_at_once(sqlite_url: str) -> None:
    with Gate() as gate:
        async with Jobs(None, store=sqlite_url) as client:
            job = await client.submit(tasks.hold, gate.address, 1)
            async with server(sqlite_url, LONG_LEASE_S) as first:
                await gate.arrival()
                first.kill()
                await first.wait()
            async with Jobs(Pool(max_workers=1), store=sqlite_url, lease=LONG_LEASE_S):
                (await gate.arrival()).let_through()
                done = await client.wait(job.id, PATIENCE_S)
                assert (done.result, done.attempts) == (1, 2)


async def test_a_server_that_runs_takes_them_over(store_url: str) -> None:
    """On SQLite it sees that the pipe has no reader, on PostgreSQL that the lease has ended; the tests of the lease
    show within which time.
    """
    with Gate() as gate:
        async with Jobs(None, store=store_url) as client, server(store_url, LONG_LEASE_S) as first:
            job = await client.submit(tasks.hold, gate.address, 1)
            await gate.arrival()
            async with Jobs(Pool(max_workers=1), store=store_url, lease=OWN_LEASE_S) as jobs:
                first.kill()
                await first.wait()
                if store_url.startswith("postgresql"):
                    sql = "UPDATE lifepool_job_servers SET lease_until = 0 WHERE id <> ?"
                    own = jobs._running().store
                    await own._write(lambda tx: tx.run(sql, own.server))
                (await gate.arrival()).let_through()
                done = await client.wait(job.id, PATIENCE_S)
                assert (done.result, done.attempts) == (1, 2)
