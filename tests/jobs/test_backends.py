"""Jobs run in every pool, whatever its backend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from lifepool.jobs import Jobs, JobState
from tests.engine.gates import Gate
from tests.jobs import tasks
from tests.jobs.running import finished

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["inline", "executor", "an executor of the user's", "local"])
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param.startswith("an executor"):
        with ThreadPoolExecutor(2) as executor:
            yield executor
    else:
        yield request.param


async def test_jobs_succeed_and_fail_on_every_backend(backend: Any, sqlite_url: str) -> None:
    async with Jobs(Pool(backend=backend, max_workers=1), store=sqlite_url, secret="a secret") as jobs:
        good = await jobs.submit(tasks.echo, tasks.Point(1, 2))
        bad = await jobs.submit(tasks.fail, "no")
        assert (await finished(jobs, good)).result == tasks.Point(1, 2)
        failure = (await finished(jobs, bad)).failure
        assert failure is not None
        assert (failure.reason, failure.type, failure.message) == ("raised", "builtins.ValueError", "no")


async def test_without_interrupts_a_job_is_answered_at_once_when_it_is_cancelled_or_takes_too_long(
    sqlite_url: str,
) -> None:
    with Gate() as gate, ThreadPoolExecutor(2) as executor:
        async with Jobs(Pool(backend=executor, max_workers=2), store=sqlite_url) as jobs:
            cancelled = await jobs.submit(tasks.hold, gate.address)
            late = await jobs.submit(tasks.hold, gate.address, timeout=0.2)
            visitors = [await gate.arrival(), await gate.arrival()]
            await jobs.cancel(cancelled.id)
            assert (await finished(jobs, cancelled)).state is JobState.CANCELLED
            failure = (await finished(jobs, late)).failure
            assert failure is not None
            assert failure.reason == "timeout"
            for visitor in visitors:
                visitor.let_through()


async def test_a_broken_executor_gives_its_jobs_back_and_counts_the_attempt(sqlite_url: str) -> None:
    async with Jobs(Pool(backend="executor", max_workers=1), store=sqlite_url) as jobs:
        done = await finished(jobs, await jobs.submit(tasks.crash, max_attempts=1))
        assert (done.state, done.attempts) == ("lost", 1)
        assert (await finished(jobs, await jobs.submit(tasks.add, 1, 2))).result == 3
