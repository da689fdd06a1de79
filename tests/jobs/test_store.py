"""The store's operations, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lifepool.jobs.errors import IdempotencyConflict, JobNotFound, WrongJobState
from lifepool.jobs.records import JobFailure, JobQuery, JobState
from lifepool.jobs.rules import Ending, Outcome
from lifepool.jobs.store.calling import DELAYS_S, UNDER_WAY_S
from lifepool.jobs.store.parts import PART_BYTES
from tests.jobs.stores import LEASE, new_job, opened, submitted

if TYPE_CHECKING:
    from lifepool.jobs.store.claiming import Claim, Renewal
    from lifepool.jobs.store.drivers import Transaction
    from lifepool.jobs.store.store import Store

SUCCEEDED = Outcome(Ending.SUCCEEDED, b"L1J-result")
FAILED = Outcome(Ending.FAILED, failure=JobFailure("raised", "builtins.ValueError", "no"))


async def claimed(store: Store, room: int = 10) -> list[str]:
    return [job.id for job in (await claim(store, room)).jobs]


async def claim(store: Store, room: int) -> Claim:
    found = await store.claim(room)
    assert found is not None, "its lease has ended"
    return found


async def renewed(store: Store) -> Renewal:
    renewal = await store.renew(LEASE)
    assert renewal is not None, "its lease has ended"
    return renewal


async def run_sql(store: Store, sql: str, *parameters: object) -> None:
    """Do to the database what time does."""

    def operation(transaction: Transaction) -> None:
        transaction.run(sql, *parameters)

    await store._write(operation)


async def test_a_job_is_there_for_whoever_opens_the_store_next(store_url: str) -> None:
    async with opened(store_url) as store:
        job = await store.submit(new_job(tags=("a", "b"), priority=3), wake=False)
    async with opened(store_url) as store:
        assert await store.get(job.id) == job
    assert (job.state, job.tags, job.priority, job.attempts) == (JobState.QUEUED, ("a", "b"), 3, 0)


async def test_jobs_are_claimed_by_priority_then_in_order_and_once(store_url: str) -> None:
    async with opened(store_url, "one") as store, opened(store_url, "two") as other:
        first, second = await submitted(store), await submitted(store)
        urgent = await submitted(store, priority=1)
        assert await claimed(store, 2) == [urgent, first]
        assert await claimed(other) == [second]
        assert await claimed(store) == []
        assert (await store.get(first)).state is JobState.RUNNING
        assert (await store.get(first)).attempts == 1


async def test_two_servers_that_claim_at_once_get_different_jobs(store_url: str) -> None:
    async with opened(store_url, "one") as store, opened(store_url, "two") as other:
        jobs = [await submitted(store) for _ in range(40)]
        found = await asyncio.gather(*(claimed(each, 1) for _ in range(20) for each in (store, other)))
        assert sorted(job for each in found for job in each) == sorted(jobs)


async def test_a_known_idempotency_key_returns_its_job(store_url: str) -> None:
    async with opened(store_url) as store:
        job = await store.submit(new_job(idempotency_key="key"), wake=False)
        again = await store.submit(new_job(idempotency_key="key"), wake=False)
        assert (job.is_new, again.is_new, again.id) == (True, False, job.id)
        with pytest.raises(IdempotencyConflict, match="'key' belongs to job"):
            await store.submit(new_job(idempotency_key="key", payload_hash="other"), wake=False)


async def test_a_key_that_many_use_at_once_stores_one_job(store_url: str) -> None:
    async with opened(store_url) as store, opened(store_url) as other:
        calls = [each.submit(new_job(idempotency_key="key"), wake=False) for each in (store, other) * 10]
        jobs = await asyncio.gather(*calls)
        assert len({job.id for job in jobs}) == 1
        assert sum(job.is_new for job in jobs) == 1


async def test_storing_the_same_job_again_changes_nothing(store_url: str) -> None:
    """As after a connection that was lost while it was committed."""
    async with opened(store_url, "one") as store:
        new = new_job()
        await store.submit(new, wake=False)
        assert (await store.submit(new, wake=False)).is_new
        assert len(await claimed(store)) == 1


async def test_an_outcome_is_stored_once_and_only_by_who_has_the_job(store_url: str) -> None:
    async with opened(store_url, "one") as store, opened(store_url, "two") as other:
        job = await submitted(store)
        (mine,) = (await claim(store, 1)).jobs
        assert not await other.settle(job, mine.token, SUCCEEDED)
        assert not await store.settle(job, mine.token - 1, SUCCEEDED)
        assert await store.settle(job, mine.token, SUCCEEDED)
        assert await store.settle(job, mine.token, SUCCEEDED)  # again, after a connection that was lost
        found, result = await store.get_with_result(job)
        assert (found.state, result) == (JobState.SUCCEEDED, b"L1J-result")


async def test_a_job_that_was_taken_over_can_not_be_finished_by_its_first_server(store_url: str) -> None:
    async with opened(store_url, "one") as store, opened(store_url, "two") as other:
        job = await submitted(store)
        (mine,) = (await claim(store, 1)).jobs
        await run_sql(store, "UPDATE lifepool_job_servers SET lease_until = 0 WHERE id = 'one'")
        assert (await renewed(other)).requeued == 1
        (theirs,) = (await claim(other, 1)).jobs
        assert theirs.attempt == 2
        assert not await store.settle(job, mine.token, SUCCEEDED)
        assert (await store.get(job)).state is JobState.RUNNING
        assert await other.settle(job, theirs.token, FAILED)
        assert (await store.get(job)).state is JobState.FAILED


async def test_a_server_whose_lease_has_ended_can_neither_claim_nor_renew(store_url: str) -> None:
    async with opened(store_url, "one") as store, opened(store_url, "two") as other:
        await submitted(store)
        await run_sql(store, "UPDATE lifepool_job_servers SET lease_until = 0 WHERE id = 'one'")
        await renewed(other)
        assert await store.claim(1) is None
        assert await store.renew(LEASE) is None
        await store.register(LEASE)
        assert len(await claimed(store)) == 1


async def test_a_job_whose_servers_die_is_lost_after_its_attempts(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        job = await submitted(store, max_attempts=2)
        for attempt in (1, 2):
            async with opened(store_url, f"dies{attempt}") as dying:
                assert await claimed(dying) == [job]
            await run_sql(store, "UPDATE lifepool_job_servers SET lease_until = 0 WHERE id <> 'one'")
            await renewed(store)
        found = await store.get(job)
        assert (found.state, found.attempts) == (JobState.LOST, 2)
        assert found.failure is not None
        assert found.failure.reason == "server-lost"


async def test_a_server_that_leaves_gives_its_jobs_back_uncounted(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        job = await submitted(store)
        await store.claim(1)
        await store.unregister()
        found = await store.get(job)
        assert (found.state, found.attempts) == (JobState.QUEUED, 0)


async def test_a_job_that_fails_runs_again_later_as_often_as_it_may(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifepool.jobs.rules.FIRST_DELAY_S", 60.0)
    async with opened(store_url, "one") as store:
        job = await submitted(store, retries=1, max_attempts=4)
        (first,) = (await claim(store, 1)).jobs
        await store.settle(job, first.token, FAILED)
        found = await store.get(job)
        assert (found.state, found.failures) == (JobState.QUEUED, 1)
        assert found.failure == FAILED.failure
        taken = await claim(store, 1)
        assert not taken.jobs
        assert taken.wait == pytest.approx(60.0, abs=50.0)
        await run_sql(store, "UPDATE lifepool_jobs SET run_at = 0")
        (second,) = (await claim(store, 1)).jobs
        await store.settle(job, second.token, FAILED)
        assert (await store.get(job)).state is JobState.FAILED


async def test_a_delayed_job_is_claimed_when_it_is_due(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        job = await submitted(store, run_at=4e9)
        taken = await claim(store, 1)
        assert not taken.jobs
        assert taken.wait is not None
        assert taken.wait > 1e6
        await run_sql(store, "UPDATE lifepool_jobs SET run_at = 0")
        assert await claimed(store) == [job]


async def test_of_a_limit_key_only_so_many_run_and_others_pass_by(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        limited = [await submitted(store, limit_key="key", limit=2) for _ in range(4)]
        free = await submitted(store)
        taken = await claim(store, 4)
        assert ([job.id for job in taken.jobs], taken.again) == (limited[:2], True)
        assert await claimed(store) == [free]
        await store.settle(taken.jobs[0].id, taken.jobs[0].token, SUCCEEDED)
        assert await claimed(store) == [limited[2]]


async def test_a_limit_holds_across_servers_that_claim_at_once(store_url: str) -> None:
    async with opened(store_url, "one") as store, opened(store_url, "two") as other:
        for _ in range(20):
            await submitted(store, limit_key="key", limit=3)
        found = await asyncio.gather(*(claimed(each, 2) for _ in range(10) for each in (store, other)))
        assert sum(map(len, found)) == 3


async def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(store_url: str) -> None:
    messages: list[str] = []
    async with opened(store_url, "one", messages) as store:
        waiting, running = await submitted(store), await submitted(store, priority=1)
        (mine,) = (await claim(store, 1)).jobs
        assert (await store.cancel(waiting)).state is JobState.CANCELLED
        asked = await store.cancel(running)
        assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
        assert f"-{running}" in messages
        assert (await renewed(store)).cancelled == {running}
        await store.settle(running, mine.token, Outcome(Ending.CANCELLED))
        assert (await store.cancel(running)).state is JobState.CANCELLED
        with pytest.raises(JobNotFound):
            await store.cancel("nothing")


async def test_a_cancelled_job_of_a_dead_server_does_not_run_again(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        job = await submitted(store)
        async with opened(store_url, "dies") as dying:
            await dying.claim(1)
            await dying.cancel(job)
        await run_sql(store, "UPDATE lifepool_job_servers SET lease_until = 0 WHERE id <> 'one'")
        await renewed(store)
        assert (await store.get(job)).state is JobState.CANCELLED


async def test_what_has_failed_can_be_retried_and_what_has_succeeded_can_not(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        job = await submitted(store)
        (mine,) = (await claim(store, 1)).jobs
        await store.settle(job, mine.token, FAILED)
        again = await store.retry(job)
        assert (again.state, again.attempts, again.finished_at) == (JobState.QUEUED, 0, None)
        (mine,) = (await claim(store, 1)).jobs
        await store.settle(job, mine.token, SUCCEEDED)
        assert (await store.get(job)).failure is None
        with pytest.raises(WrongJobState, match="is succeeded"):
            await store.retry(job)
        with pytest.raises(JobNotFound):
            await store.retry("nothing")


async def test_large_arguments_and_results_come_back_as_they_were(store_url: str) -> None:
    result = bytes(range(256)) * (PART_BYTES // 256 * 3) + b"rest"
    async with opened(store_url, "one") as store:
        job = await submitted(store, arguments=result[::-1])
        (mine,) = (await claim(store, 1)).jobs
        assert mine.arguments == result[::-1]
        await store.settle(job, mine.token, Outcome(Ending.SUCCEEDED, result))
        found, stored = await store.get_with_result(job)
        assert stored == result
        assert found.result_size == len(result)


async def test_what_has_expired_is_deleted_with_all_that_belongs_to_it(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        job = await submitted(store, keep=0.001, tags=("tag",), on_done=("module:done",), idempotency_key="key")
        kept = await submitted(store)
        (mine, other) = (await claim(store, 2)).jobs
        await store.settle(job, mine.token, Outcome(Ending.SUCCEEDED, bytes(2 * PART_BYTES)))
        await store.settle(kept, other.token, SUCCEEDED)
        await run_sql(store, "UPDATE lifepool_jobs SET expires_at = 0 WHERE id = ?", job)
        await renewed(store)
        with pytest.raises(JobNotFound):
            await store.get(job)
        assert (await store.get(kept)).expires_at is None

        def rest(transaction: Transaction) -> list[int]:
            tables = ("lifepool_job_tags", "lifepool_job_parts", "lifepool_job_calls")
            return [transaction.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables]

        assert await store._write(rest) == [0, 0, 0]
        assert (await store.submit(new_job(idempotency_key="key", payload_hash="other"), wake=False)).is_new


async def test_jobs_are_found_by_state_name_and_tag_page_by_page(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        for number in range(5):
            await submitted(store, name="even" if number % 2 == 0 else "odd", tags=(f"tag{number}", "all"))
        first = await store.find(JobQuery(limit=2))
        assert len(first) == 3
        rest = await store.find(JobQuery(limit=10, before=first[1][0]))
        assert [job.tags[0] for _, job in first[:2] + rest] == ["tag4", "tag3", "tag2", "tag1", "tag0"]
        assert len(await store.find(JobQuery(name="even"))) == 3
        assert [job.tags for _, job in await store.find(JobQuery(tag="tag3"))] == [("tag3", "all")]
        await store.claim(2)
        found = await store.find(JobQuery(states=(JobState.RUNNING, JobState.LOST), tag="all", name="odd"))
        assert len(found) == 1
        assert (await store.counts())[0] == {"queued": 3, "running": 2}


async def test_progress_is_stored_for_who_has_the_job(store_url: str) -> None:
    async with opened(store_url, "one") as store, opened(store_url, "two") as other:
        job = await submitted(store)
        await store.claim(1)
        await store.report({job: '[1, 4, "hello", "steps"]'})
        await other.report({job: '[2, 4, "no", null]'})
        progress = (await store.get(job)).progress
        assert progress is not None
        assert (progress.done, progress.total, progress.message, progress.unit) == (1, 4, "hello", "steps")


class Heard(list[str]):
    """Messages, to wait for."""

    def __init__(self) -> None:
        self._new = asyncio.Event()

    def append(self, message: str) -> None:
        super().append(message)
        self._new.set()

    async def message(self, message: str) -> None:
        async with asyncio.timeout(10):
            while message not in self:
                self._new.clear()
                await self._new.wait()


async def test_other_servers_hear_of_changes(store_url: str) -> None:
    heard = Heard()
    async with opened(store_url, "one") as store, opened(store_url, "two", heard):
        if store_url.startswith("postgresql"):
            await heard.message("*")  # it listens from now on
            heard.clear()
        await store.submit(new_job(), wake=True)
        await heard.message("*")
        (job,) = (await claim(store, 1)).jobs
        await heard.message(job.id)


async def test_a_job_that_may_be_started_once_is_lost_with_its_server(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        job = await submitted(store, max_attempts=1)
        async with opened(store_url, "dies") as dying:
            await dying.claim(1)
        await run_sql(store, "UPDATE lifepool_job_servers SET lease_until = 0 WHERE id <> 'one'")
        await renewed(store)
        assert (await store.get(job)).state is JobState.LOST


async def test_calls_are_made_by_one_server_and_given_up_after_the_last_failure(store_url: str) -> None:
    async with opened(store_url, "one") as store, opened(store_url, "two") as other:
        job = await submitted(store, on_done=("module:done",))
        await store.cancel(job)
        for attempts in range(len(DELAYS_S) + 1):
            (call,), _ = await store.claim_calls(5)
            assert (call.target, call.attempts) == ("module:done", attempts)
            others, wait = await other.claim_calls(5)
            assert not others
            assert UNDER_WAY_S - 60 < (wait or 0) <= UNDER_WAY_S
            await store.end_call(call, "it failed")
            await run_sql(store, "UPDATE lifepool_job_calls SET due = 0 WHERE due IS NOT NULL")
        assert await store.claim_calls(5) == ([], None)
        assert await store.calls_of(job) == [("module:done", len(DELAYS_S) + 1, "it failed", True)]


async def test_the_calls_of_a_dead_server_are_made_by_another_at_once(store_url: str) -> None:
    async with opened(store_url, "one") as store:
        async with opened(store_url, "dies") as dying:
            await dying.cancel(await submitted(dying, on_done=("module:done",)))
            assert len((await dying.claim_calls(5))[0]) == 1
        await run_sql(store, "UPDATE lifepool_job_servers SET lease_until = 0 WHERE id <> 'one'")
        await renewed(store)
        (call,), _ = await store.claim_calls(5)
        await store.end_call(call, None)
        assert await store.calls_of(call.job) == []


async def test_what_is_accepted_is_synced_and_what_may_be_repeated_is_not(store_url: str) -> None:
    sql = "PRAGMA synchronous" if store_url.startswith("sqlite") else "SHOW synchronous_commit"
    async with opened(store_url) as store:
        found = [await store._write(lambda tx: tx.rows(sql)[0][0], durable=durable) for durable in (True, False)]
    assert found in ([2, 1], ["on", "off"])
    if store_url.startswith("sqlite"):
        async with opened(f"{store_url}?synchronous=NORMAL") as store:
            assert await store._write(lambda tx: tx.rows(sql)[0][0], durable=True) == 1


async def test_a_server_keeps_three_connections(postgresql_url: str) -> None:
    messages = Heard()
    async with opened(postgresql_url, "one", messages) as store:
        await messages.message("*")
        await store.counts()
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        async with asyncio.timeout(30):
            while await store._write(lambda tx: tx.rows(sql)[0][0]) != 3:
                pass  # the ends of connections of stores before it are still ending
