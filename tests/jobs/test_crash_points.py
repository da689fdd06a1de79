"""The server is killed (SIGKILL) at each step that it does in the store; the next one finds all that was promised."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool
from lifepool.jobs import Jobs, JobState
from tests.jobs import tasks
from tests.jobs.crashing import LARGE, LEASE_S

if TYPE_CHECKING:
    from tests.jobs.postgresql import Server

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
STRIDE = 17
#: Of the test of every step on SQLite: they run side by side.
PARTS = 3


async def crash_at_each(folder: Path, first: int, stride: int, *urls: str) -> list[Path]:
    """Have servers killed; the folders of those that were, and of one that was not."""
    arguments = [sys.executable, "-m", "tests.jobs.crashing", str(folder), str(first), str(stride), *urls]
    process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, stdout=subprocess.PIPE)
    await process.communicate()
    assert process.returncode == 0
    return sorted(folder.iterdir(), key=lambda each: int(each.name))


def lines(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


async def check(folder: Path) -> int:
    """Let the next server work, and compare with what the first one was promised; how many ran twice."""
    promised = {(what, name): job for what, name, job in lines(folder / "promised")}
    ran_before = Counter(name for (name,) in lines(folder / "ran"))
    async with Jobs(Pool(backend="inline"), store=(folder / "url").read_text(), lease=LEASE_S) as jobs:
        for (what, name), job_id in promised.items():
            if what == "cancelled":
                assert (await jobs.get(job_id)).state is JobState.CANCELLED
            elif name != "dropped":
                done = await jobs.wait(job_id, PATIENCE_S)
                assert (done.state, done.result) == ("succeeded", name + LARGE * (name == "large") * "x"), folder
            if name == "called":
                store = jobs._running().store
                async with asyncio.timeout(PATIENCE_S):
                    while await store.calls_of(job_id):
                        await jobs.wait((await jobs.submit(tasks.add, 1, 2)).id)
                assert (folder / job_id).read_text() == "job.succeeded"
        # What was stored and not promised yet (the answer was on its way) runs as well.
        listed = (await jobs.list(limit=100)).jobs
        unknown = [job for job in listed if job.id not in promised.values() and job.name == "logged"]
        assert len(unknown) <= 1
        for job in unknown:
            if job.run_at is None:
                assert (await jobs.wait(job.id, PATIENCE_S)).state is JobState.SUCCEEDED
    ran = Counter(name for (name,) in lines(folder / "ran"))
    for what, name in promised:
        if what == "result":
            assert ran[name] == ran_before[name] == 1, f"{folder}: {name} ran again after its result was seen"
    assert max(ran.values(), default=0) <= 2
    return sum(count > 1 for count in ran.values())


@pytest.mark.parametrize("first", range(1, PARTS + 1))
async def test_a_server_killed_at_any_step_on_sqlite_loses_nothing(first: int, tmp_path: Path) -> None:
    folders = await crash_at_each(tmp_path, first, PARTS)
    assert len(folders) > 30
    twice = [await check(folder) for folder in folders]
    # At least once: a job runs again if its server died between its end and the commit of its outcome.
    assert 0 < sum(twice) < len(folders) / 2
    assert twice[-1] == 0


async def test_a_server_killed_at_some_steps_on_postgresql_loses_nothing(
    tmp_path: Path, postgresql_server: Server
) -> None:
    """Every 17th, others in each run; `make stress-jobs` does all of them."""
    urls = [postgresql_server.new_store() for _ in range(30)]
    first = random.randrange(1, STRIDE + 1)
    folders = await crash_at_each(tmp_path, first, STRIDE, *urls)
    assert len(folders) > 5
    for folder in folders:
        await check(folder)
