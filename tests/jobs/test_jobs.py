"""Jobs as users meet them: submitted, run in a pool, looked at, cancelled, retried."""

from __future__ import annotations

import asyncio
import functools
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

import pytest

from lifepool import PayloadTooLarge, Pool
from lifepool.jobs import (
    IdempotencyConflict,
    JobNotFound,
    JobNotStorable,
    Jobs,
    JobState,
    WrongJobState,
)
from tests.engine.gates import Gate
from tests.jobs import tasks
from tests.jobs.running import PATIENCE_S, finished, running

if TYPE_CHECKING:
    from pathlib import Path

# -- results ----------------------------------------------------------------------------------------------------------


async def test_a_job_runs_and_its_result_is_there(store_url: str) -> None:
    async with running(store_url, real=True) as jobs:
        job = await jobs.submit(tasks.add, 2, 3)
        assert (job.state, job.name, job.function) == ("queued", "add", "tests.jobs.tasks:add")
        done = await finished(jobs, job)
        assert (done.state, done.result, done.attempts) == ("succeeded", 5, 1)
        assert done.created_at <= (done.started_at or 0) <= (done.finished_at or 0)
        assert (await jobs.get(job.id)).result == 5
        assert (await jobs.look(job.id)).result is None


async def test_keywords_go_through_a_partial(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        job = await jobs.submit(functools.partial(tasks.echo, again=True), {"key": (1, b"bytes")})
        assert (await finished(jobs, job)).result == [{"key": (1, b"bytes")}] * 2
        with pytest.raises(TypeError, match=r"submit\(\) does not know again"):
            await jobs.submit(tasks.echo, 1, again=True)  # type: ignore[arg-type]


async def test_what_raises_has_failed_with_its_traceback(sqlite_url: str) -> None:
    async with running(sqlite_url, real=True) as jobs:
        done = await finished(jobs, await jobs.submit(tasks.fail, "no such order"))
        assert (done.state, done.attempts, done.failures) == ("failed", 1, 1)
        assert done.failure is not None
        assert (done.failure.reason, done.failure.type) == ("raised", "builtins.ValueError")
        assert done.failure.message == "no such order"
        assert "in fail" in (done.failure.traceback or "")


async def test_what_raises_runs_again_as_often_as_it_may(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifepool.jobs.rules.FIRST_DELAY_S", 0.01)
    async with running(sqlite_url) as jobs:
        done = await finished(jobs, await jobs.submit(tasks.run_twice, str(tmp_path), retries=1))
        assert (done.state, done.result, done.attempts, done.failures) == ("succeeded", "the second time", 2, 1)
        done = await finished(jobs, await jobs.submit(tasks.fail, "always", retries=2))
        assert (done.state, done.attempts) == ("failed", 3)


async def test_what_takes_too_long_is_broken_off(sqlite_url: str) -> None:
    async with running(sqlite_url, real=True) as jobs:
        done = await finished(jobs, await jobs.submit(tasks.slow, 60, timeout=0.2))
        assert done.state is JobState.FAILED
        assert done.failure is not None
        assert done.failure.reason == "timeout"


async def test_a_job_that_kills_its_workers_is_lost_after_its_attempts(sqlite_url: str) -> None:
    async with running(sqlite_url, real=True) as jobs:
        done = await finished(jobs, await jobs.submit(tasks.crash, max_attempts=2))
        assert (done.state, done.attempts) == ("lost", 2)
        assert done.failure is not None
        assert (done.failure.reason, done.failure.type) == ("worker-lost", "lifepool.errors.WorkerLost")
        assert (await finished(jobs, await jobs.submit(tasks.add, 1, 1))).result == 2


async def test_the_pools_default_timeout_is_not_the_jobs(sqlite_url: str) -> None:
    async with Jobs(Pool(max_workers=1, timeout=0.05), store=sqlite_url) as jobs:
        assert (await finished(jobs, await jobs.submit(tasks.slow, 0.2))).result == 0.2


# -- what is stored ---------------------------------------------------------------------------------------------------


async def test_what_json_can_not_carry_needs_a_secret(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        with pytest.raises(JobNotStorable, match=r"args\[0\]\[0\].*Point.*set LIFEPOOL_SECRET"):
            await jobs.submit(tasks.echo, tasks.Point(1, 2))
        done = await finished(jobs, await jobs.submit(tasks.make_set))
        assert done.failure is not None
        assert (done.state, done.failure.reason) == ("failed", "not-storable")
        assert "result can't be stored" in done.failure.message


async def test_with_a_secret_anything_that_can_be_pickled_is_stored(store_url: str) -> None:
    async with running(store_url, real=True, secret="a secret") as jobs:
        done = await finished(jobs, await jobs.submit(tasks.echo, tasks.Point(1, 2)))
        assert done.result == tasks.Point(1, 2)


async def test_what_was_signed_with_another_secret_is_not_run(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url, secret="the old one") as jobs:
        job = await jobs.submit(tasks.echo, 1)
    async with running(sqlite_url, secret="the new one") as jobs:
        done = await finished(jobs, job)
        assert (done.state, done.attempts) == ("failed", 1)
        assert done.failure is not None
        assert (done.failure.reason, "signature" in done.failure.message) == ("not-callable", True)


async def test_a_function_that_a_new_version_does_not_have_fails_with_a_reason(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Jobs(None, store=sqlite_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2, retries=5)
    monkeypatch.delattr(tasks, "add")
    async with running(sqlite_url) as jobs:
        done = await finished(jobs, job)
        assert (done.state, done.attempts) == ("failed", 1)
        assert done.failure is not None
        assert done.failure.reason == "not-callable"
        assert "tests.jobs.tasks:add can't be imported: AttributeError" in done.failure.message


async def test_arguments_above_the_pools_limit_are_refused(sqlite_url: str) -> None:
    async with Jobs(Pool(backend="inline", max_payload=1000), store=sqlite_url) as jobs:
        with pytest.raises(PayloadTooLarge):
            await jobs.submit(tasks.echo, bytes(2000))


async def test_large_arguments_and_results_come_through(store_url: str) -> None:
    data = os.urandom(3 * 1024 * 1024)
    async with running(store_url, real=True, secret="a secret") as jobs:
        assert (await finished(jobs, await jobs.submit(tasks.echo, data))).result == data


async def test_an_idempotency_key_is_for_one_call(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2, idempotency_key="order 7")
        again = await jobs.submit(tasks.add, 1, 2, idempotency_key="order 7")
        assert (again.id, again.is_new) == (job.id, False)
        with pytest.raises(IdempotencyConflict) as caught:
            await jobs.submit(tasks.add, 1, 3, idempotency_key="order 7")
        assert (caught.value.status_hint, caught.value.job_id) == (409, job.id)


async def test_options_that_make_no_sense_are_refused(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        bad: list[tuple[dict[str, Any], str]] = [
            ({"timeout": 0}, "timeout=0"),
            ({"retries": -1}, "retries=-1"),
            ({"run_at": datetime(2030, 1, 1)}, "no time zone"),
            ({"tags": ["a\0b"]}, "tags="),
            ({"idempotency_key": ""}, "idempotency_key=''"),
            ({"on_done": "nonsense"}, "on_done='nonsense'"),
            ({"on_done": "https://example.com"}, "LIFEPOOL_SECRET"),
            ({"priority": 2**40}, "priority="),
        ]
        for options, message in bad:
            with pytest.raises(ValueError, match=message):
                await jobs.submit(tasks.add, 1, 2, **options)
        with pytest.raises(TypeError, match="several texts"):
            await jobs.submit(tasks.add, 1, 2, tags="a")
        assert not (await jobs.list()).jobs


# -- order, delay, limits ---------------------------------------------------------------------------------------------


async def test_a_delayed_job_starts_when_it_is_due(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2, run_at=timedelta(seconds=0.3))
        later = await jobs.submit(tasks.add, 1, 2, run_at=datetime.now(UTC) + timedelta(days=1))
        done = await finished(jobs, job)
        assert done.started_at is not None
        assert done.run_at is not None
        assert done.started_at >= done.run_at
        assert (await jobs.get(later.id)).state is JobState.QUEUED


async def test_jobs_of_a_limit_key_run_one_after_another(sqlite_url: str) -> None:
    with Gate() as gate:
        async with running(sqlite_url, real=True) as jobs:
            first = await jobs.submit(tasks.hold, gate.address, 1, limit_key="customer 7")
            second = await jobs.submit(tasks.hold, gate.address, 2, limit_key="customer 7")
            visitor = await gate.arrival()
            assert (await finished(jobs, await jobs.submit(tasks.add, 1, 2))).result == 3  # there is room for others
            assert (await jobs.get(second.id)).state is JobState.QUEUED
            visitor.let_through()
            (await gate.arrival()).let_through()
            assert (await finished(jobs, first)).result == 1
            assert (await finished(jobs, second)).result == 2


async def test_a_full_pool_is_waited_for_without_counting(sqlite_url: str) -> None:
    pool = Pool(max_workers=1, max_queue=1)
    with Gate() as gate:
        async with Jobs(pool, store=sqlite_url, max_running=5) as jobs:
            many = [await jobs.submit(tasks.hold, gate.address, number) for number in range(5)]
            for _ in many:
                (await gate.arrival()).let_through()
            done = [await finished(jobs, job) for job in many]
            assert [(job.result, job.attempts) for job in done] == [(number, 1) for number in range(5)]


# -- progress, cancel, retry ------------------------------------------------------------------------------------------


async def test_progress_is_seen_while_it_runs_and_after(store_url: str) -> None:
    with Gate() as gate:
        async with running(store_url, real=True) as jobs:
            job = await jobs.submit(tasks.report_and_hold, gate.address)
            visitor = await gate.arrival()
            async with asyncio.timeout(PATIENCE_S):
                async for found in jobs.changes(job.id):
                    if found.progress is not None:
                        break
            progress = found.progress
            assert progress is not None
            assert (progress.done, progress.total, progress.message, progress.unit) == (3, 7, "three of seven", "steps")
            visitor.let_through()
            last = (await finished(jobs, job)).progress
            assert last is not None
            assert last.done == 7


async def test_a_running_job_is_cancelled_by_whoever_shares_the_store(store_url: str) -> None:
    with Gate() as gate:
        async with running(store_url, real=True) as jobs, Jobs(None, store=store_url) as other:
            job = await other.submit(tasks.hold, gate.address)
            visitor = await gate.arrival()
            asked = await other.cancel(job.id)
            assert (asked.state, asked.cancel_requested) == ("running", True)
            await visitor.gone()
            assert (await finished(other, job)).state is JobState.CANCELLED
            assert (await finished(jobs, await jobs.submit(tasks.add, 1, 1))).result == 2


async def test_a_waiting_job_is_cancelled_at_once_and_can_be_retried(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2, run_at=timedelta(days=1))
        assert (await jobs.cancel(job.id)).state is JobState.CANCELLED
        assert (await jobs.retry(job.id)).state is JobState.QUEUED
        assert (await finished(jobs, job)).result == 3
        with pytest.raises(WrongJobState):
            await jobs.retry(job.id)
        with pytest.raises(JobNotFound):
            await jobs.cancel("nothing")


async def test_dead_letters_are_what_has_failed_or_was_lost(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        bad = await jobs.submit(tasks.fail, "no")
        good = await jobs.submit(tasks.add, 1, 2)
        await finished(jobs, bad)
        await finished(jobs, good)
        assert [job.id for job in (await jobs.dead_letters()).jobs] == [bad.id]


async def test_the_list_goes_on_page_by_page(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url) as jobs:
        ids = [(await jobs.submit(tasks.add, number, 0, tags=["all"])).id for number in range(5)]
        found: list[str] = []
        cursor = None
        while True:
            page = await jobs.list(tag="all", state="queued", limit=2, cursor=cursor)
            found += [job.id for job in page.jobs]
            cursor = page.next
            if cursor is None:
                break
        assert found == ids[::-1]
        with pytest.raises(ValueError, match="cursor="):
            await jobs.list(cursor="nonsense")
        with pytest.raises(ValueError, match="not a valid JobState"):
            await jobs.list(state="asleep")


# -- what is called when a job has ended ------------------------------------------------------------------------------


async def test_a_callback_is_called_with_the_job_when_it_has_ended(store_url: str, tmp_path: Path) -> None:
    async with running(store_url) as jobs:
        good = await jobs.submit(tasks.add, 1, 2, on_done=tasks.done, tags=[str(tmp_path)])
        bad = await jobs.submit(tasks.fail, "no", on_done="tests.jobs.tasks:done", tags=[str(tmp_path)])
        async with asyncio.timeout(PATIENCE_S):
            while len(list(tmp_path.glob("*-*-*"))) < 2:
                await finished(jobs, await jobs.submit(tasks.slow, 0.01))
        assert (tmp_path / good.id).read_text() == "job.succeeded"
        assert (tmp_path / bad.id).read_text() == "job.failed"


async def test_a_callback_that_fails_is_kept_and_tried_again(sqlite_url: str) -> None:
    async with running(sqlite_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2, on_done=tasks.never_done)
        assert (await finished(jobs, job)).state is JobState.SUCCEEDED
        store = jobs._running().store
        async with asyncio.timeout(PATIENCE_S):
            while not (calls := await store.calls_of(job.id))[0][1]:
                await finished(jobs, await jobs.submit(tasks.slow, 0.01))
        ((target, attempts, failure, given_up),) = calls
        assert (target, attempts, given_up) == ("tests.jobs.tasks:never_done", 1, False)
        assert "not today" in (failure or "")


# -- decorated --------------------------------------------------------------------------------------------------------


async def test_a_decorated_function_is_stored_when_it_is_called(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(Pool(backend="inline"), store=sqlite_url)
    decorated = jobs.job(retries=1, tags=("all",))(tasks.echo)
    monkeypatch.setattr(tasks, "echo", decorated)
    async with jobs:
        job = await decorated(7, again=True)
        assert (job.retries, job.tags, job.function) == (1, ("all",), "tests.jobs.tasks:echo")
        assert (await finished(jobs, job)).result == [7, 7]
        other = await decorated.options(name="other")(8)
        assert (other.name, other.retries) == ("other", 1)
        assert (await finished(jobs, await jobs.submit(decorated, 9))).result == 9
        assert decorated.function(1) == 1
    with pytest.raises(TypeError, match="does not know"):
        jobs.job(retry=1)(tasks.add)


# -- types ------------------------------------------------------------------------------------------------------------


async def typed(jobs: Jobs) -> None:
    """Never run: mypy reads it, and an error that is expected and does not come is an error (``make types``)."""
    await jobs.submit(tasks.add, 1, 2, retries=1, tags=["typed"])
    await jobs.submit(functools.partial(tasks.echo, again=True), 1)
    await jobs.submit(tasks.echo, 1)  # what has a default may be left out
    await jobs.submit(tasks.add, 1, "2")  # type: ignore[arg-type]
    await jobs.submit(tasks.add, 1)  # type: ignore[arg-type]
    await jobs.submit(tasks.add, 1, 2, 3)  # type: ignore[arg-type]
    await jobs.submit(tasks.echo, 1, again=True)  # type: ignore[arg-type]
    await jobs.submit(tasks.add, 1, 2, retries="many")  # type: ignore[arg-type]
    decorated = jobs.job(retries=1)(tasks.add)
    assert_type((await decorated(1, 2)).attempts, int)
    await decorated(1, "2")  # type: ignore[arg-type]
    await jobs.submit(decorated, 1, 2)
    await jobs.submit(decorated, 1)  # type: ignore[arg-type]
