"""How jobs start and end, and what they do when something unexpected happens."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from lifepool.jobs import Jobs, JobsNotStarted, JobState
from lifepool.jobs import service as module
from lifepool.jobs.runner import Runner
from lifepool.jobs.store.store import Store
from tests.engine.gates import Gate
from tests.jobs import tasks
from tests.jobs.running import PATIENCE_S, finished, running

if TYPE_CHECKING:
    from pathlib import Path


async def test_jobs_that_are_not_started_say_what_to_do(sqlite_url: str) -> None:
    jobs = Jobs(Pool(backend="inline"), store=sqlite_url)
    with pytest.raises(JobsNotStarted, match=r"lifespan=jobs\.lifespan"):
        await jobs.submit(tasks.add, 1, 2)


async def test_they_can_be_started_again_and_within_each_other(sqlite_url: str) -> None:
    jobs = Jobs(Pool(backend="inline"), store=sqlite_url)
    for _ in range(2):
        async with jobs, jobs:
            assert (await finished(jobs, await jobs.submit(tasks.add, 1, 2))).result == 3


async def test_what_was_stored_runs_in_the_next_life(store_url: str) -> None:
    async with Jobs(None, store=store_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2)
    async with running(store_url) as jobs:
        assert (await finished(jobs, job)).result == 3


async def test_a_server_that_stops_lets_its_jobs_finish(sqlite_url: str) -> None:
    with Gate() as gate:
        async with running(sqlite_url, real=True) as jobs:
            job = await jobs.submit(tasks.hold, gate.address, "finished")
            visitor = await gate.arrival()
            asyncio.get_running_loop().call_later(0.1, visitor.let_through)
        async with Jobs(None, store=sqlite_url) as jobs:
            assert (await jobs.get(job.id)).result == "finished"


async def test_a_server_that_stops_gives_back_what_does_not_finish(sqlite_url: str, tmp_path: Path) -> None:
    with Gate() as gate:
        async with running(sqlite_url, real=True, drain_timeout=0.05) as jobs:
            job = await jobs.submit(tasks.hold_first_time, str(tmp_path), gate.address)
            await gate.arrival()
        async with Jobs(None, store=sqlite_url) as jobs:
            found = await jobs.get(job.id)
            assert (found.state, found.attempts) == ("queued", 0)
        async with running(sqlite_url) as jobs:
            assert (await finished(jobs, job)).result == "again"


async def test_waiting_ends_when_time_is_up_and_the_job_goes_on(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2, run_at=timedelta(days=1))
        with pytest.raises(TimeoutError):
            await jobs.wait(job.id, 0.05)
        assert (await jobs.get(job.id)).state is JobState.QUEUED


async def test_a_server_that_stood_still_drops_what_others_have_taken_over(sqlite_url: str, tmp_path: Path) -> None:
    """Its lease is taken away under it; the job runs again, and its own outcome is dropped."""
    with Gate() as gate:
        async with running(sqlite_url, real=True, lease=60.0) as jobs:
            job = await jobs.submit(tasks.hold_first_time, str(tmp_path), gate.address)
            visitor = await gate.arrival()
            store = jobs._running().store
            async with Jobs(None, store=sqlite_url) as other:
                await other._running().store.register(60)
                await other._running().store._write(
                    lambda tx: tx.run("DELETE FROM lifepool_job_servers WHERE id = ?", store.server)
                )
                await other._running().store.renew(60)
            await visitor.gone()
            done = await finished(jobs, job)
            assert (done.state, done.result, done.attempts) == ("succeeded", "again", 2)


async def test_an_interrupted_start_closes_what_it_has_opened(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Runner):
        async def start(self) -> None:
            raise RuntimeError("no")

    monkeypatch.setattr(module, "Runner", Broken)
    with pytest.raises(RuntimeError, match="no"):
        async with running(sqlite_url):
            pass


def test_a_store_that_is_none_says_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(backend="inline")
    for url, message in [
        (None, "LIFEPOOL_JOBS_STORE"),
        ("mysql://x", "sqlite:///jobs.db"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///a.db?synchronous=off", "synchronous=FULL"),
    ]:
        with pytest.raises(ValueError, match=message):
            Jobs(pool, store=url)
    monkeypatch.setenv("LIFEPOOL_JOBS_STORE", "sqlite:///from-the-environment.db")
    assert "from-the-environment" in repr(Jobs(pool))
    assert "password" not in repr(Jobs(pool, store="postgresql+psycopg://me:password@host/jobs"))


def test_importing_the_worker_side_is_light() -> None:
    program = "import sys, lifepool.jobs.calls, lifepool.jobs.progress; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert {"asyncio", "sqlite3", "psycopg", "fastapi", "lifepool.pool"}.isdisjoint(done.stdout.split())


@pytest.mark.all_loops
async def test_it_works_on_every_loop(sqlite_url: str) -> None:
    async with running(sqlite_url, real=True) as jobs, Jobs(None, store=sqlite_url) as other:
        assert (await finished(other, await jobs.submit(tasks.add, 1, 2))).result == 3
        assert (await finished(other, await other.submit(tasks.add, 1, 2))).result == 3  # the other is woken


async def test_a_function_of_the_pool_can_be_a_job(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(backend="inline")
    monkeypatch.setattr(tasks, "add", pool.task(tasks.add))
    async with Jobs(pool, store=sqlite_url) as jobs:
        assert (await finished(jobs, await jobs.submit(tasks.add, 1, 2))).result == 3


@pytest.mark.parametrize(
    ("missing", "program", "extra"),
    [
        ("psycopg", "lifepool.jobs.store.addresses.make_driver('postgresql://host/db')", "jobs-postgresql"),
        ("fastapi", "lifepool.jobs.job_router", "jobs"),
        ("fastapi", "lifepool.jobs.JobView", "jobs"),
    ],
)
def test_what_is_not_installed_is_an_error_that_says_how_to_get_it(missing: str, program: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; import lifepool.jobs, lifepool.jobs.store.addresses; {program}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert f"pip install 'lifepool[{extra}]'" in done.stderr


async def test_whoever_comes_second_waits_until_they_have_started(sqlite_url: str) -> None:
    jobs = Jobs(Pool(backend="inline"), store=sqlite_url)

    async def use() -> object:
        async with jobs:
            return (await finished(jobs, await jobs.submit(tasks.add, 1, 2))).result

    assert list(await asyncio.gather(use(), use(), use())) == [3, 3, 3]
    with pytest.raises(JobsNotStarted):
        await jobs.list()


@pytest.mark.parametrize("operation", ["claim", "renew", "report", "claim_calls", "end_call"])
async def test_an_unexpected_exception_is_logged_and_jobs_go_on(
    operation: str, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in one of the loops of a server: it must not end that loop."""
    real, raised = getattr(Store, operation), asyncio.Event()

    async def once(store: Store, *args: Any) -> Any:
        if raised.is_set():
            return await real(store, *args)
        raised.set()
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("lifepool.jobs.runner._AGAIN_S", 0.05)
    monkeypatch.setattr("lifepool.jobs.deliveries._AGAIN_S", 0.05)
    monkeypatch.setattr("lifepool.jobs.runner.PROGRESS_S", 0.02)
    with Gate() as gate:
        async with running(sqlite_url, real=operation == "report", lease=0.3) as jobs:
            monkeypatch.setattr(Store, operation, once)
            function = (tasks.report_and_hold, gate.address) if operation == "report" else (tasks.add, 1, 2)
            job = await jobs.submit(*function, on_done=tasks.done, tags=[str(tmp_path)])
            async with asyncio.timeout(PATIENCE_S):
                await raised.wait()
                if operation == "report":
                    (await gate.arrival()).let_through()
            assert (await finished(jobs, job)).state is JobState.SUCCEEDED
            if operation != "end_call":  # its callback would be made again after two minutes
                async with asyncio.timeout(PATIENCE_S):
                    while await jobs._running().store.calls_of(job.id):
                        await finished(jobs, await jobs.submit(tasks.slow, 0.01))
            assert (await finished(jobs, await jobs.submit(tasks.add, 3, 4))).result == 7
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_an_outcome_that_can_not_be_stored_because_of_a_bug_is_a_failure_with_a_reason(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Store.settle

    async def broken(store: Store, job: str, token: int, outcome: Any) -> bool:
        if outcome.result is not None:
            raise ZeroDivisionError("a bug")
        return await real(store, job, token, outcome)

    monkeypatch.setattr(Store, "settle", broken)
    async with running(sqlite_url) as jobs:
        done = await finished(jobs, await jobs.submit(tasks.add, 1, 2, retries=5))
        assert (done.state, done.attempts) == ("failed", 1)
        assert done.failure is not None
        assert (done.failure.reason, done.failure.type) == ("not-storable", "builtins.ZeroDivisionError")
    assert "ZeroDivisionError: a bug" in caplog.text
