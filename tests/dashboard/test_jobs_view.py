"""The page's data about jobs: bounded, without what readers may not have, and answered whatever the store does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lifepool import Pool
from lifepool.dashboard import dashboard
from lifepool.dashboard import jobs as view
from lifepool.jobs import Jobs
from lifepool.jobs.errors import StoreUnavailable
from lifepool.jobs.hook import RunningJobs
from tests.jobs import tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "what the job worked on"


@asynccontextmanager
async def looked_at(
    folder: Any, pool: Pool | None = None, **options: Any
) -> AsyncIterator[tuple[Jobs, httpx.AsyncClient]]:
    pool = pool or Pool(backend="inline")
    page = dashboard(pool, **options)
    async with Jobs(pool, store=f"sqlite:///{folder}/jobs.db") as jobs:
        transport = httpx.ASGITransport(page)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield jobs, client


def act(scope: Any) -> Any:
    return "act"


def action(name: str) -> dict[str, str]:
    return {"X-Lifepool-Action": name}


async def failed(jobs: Jobs, count: int = 1) -> list[str]:
    found = [await jobs.submit(tasks.fail, SECRET, tags=["user:ann"]) for _ in range(count)]
    return [(await jobs.wait(job.id)).id for job in found]


async def test_without_jobs_the_page_has_no_jobs() -> None:
    pool = Pool(backend="inline")
    async with pool, httpx.AsyncClient(transport=httpx.ASGITransport(dashboard(pool, access=act))) as client:
        state = (await client.get("http://localhost/state.json")).json()
        assert (state["jobs"], state["actions"]) == (False, ["cancel", "drain", "recycle"])
        assert (await client.get("http://localhost/jobs.json")).status_code == 404
        answer = await client.post("http://localhost/actions/cancel-job/x", headers=action("cancel-job"))
        assert answer.status_code == 404


async def test_readers_get_no_ids_and_no_tags_and_those_who_may_act_get_ids(tmp_path: Any) -> None:
    for access, has_ids in ((None, False), (act, True)):
        async with looked_at(tmp_path, access=access) as (jobs, client):
            (job,) = await failed(jobs)
            text = (await client.get("/jobs.json")).text
            assert (job in text) is has_ids
            assert "user:ann" not in text
            assert (await client.get("/state.json")).json()["jobs"] is True


async def test_messages_and_tracebacks_can_be_left_out(tmp_path: Any) -> None:
    for shown in (True, False):
        async with looked_at(tmp_path, Pool(max_workers=1), show_tracebacks=shown) as (jobs, client):
            await failed(jobs)
            (group,) = (await client.get("/jobs.json")).json()["dead"]
            assert (group["message"] == SECRET, group["error"]) == (shown, "ValueError")
            trace = await client.get(f"/jobs/failures/{group['key']}.json")
            assert (trace.status_code, SECRET in trace.text) == ((200, True) if shown else (404, False))
            assert (await client.get("/jobs/failures/other.json")).status_code == 404


async def test_alike_failures_are_one_group_and_only_some_are_named(tmp_path: Any) -> None:
    async with looked_at(tmp_path) as (jobs, client):
        await failed(jobs, view.MAX_NAMED + 2)
        await jobs.wait((await jobs.submit(tasks.fail, SECRET, name="other")).id)
        groups = (await client.get("/jobs.json")).json()["dead"]
        assert [(group["name"], group["count"]) for group in groups] == [("other", 1), ("fail", view.MAX_NAMED + 2)]
        assert [len(group["jobs"]) for group in groups] == [1, view.MAX_NAMED]


async def test_an_action_needs_access_and_proof_that_it_was_meant_and_a_job(tmp_path: Any) -> None:
    async with looked_at(tmp_path, access=act) as (jobs, client):
        (job,) = await failed(jobs)
        assert (await client.post(f"/actions/retry-job/{job}")).status_code == 403
        assert (await client.get(f"/actions/retry-job/{job}", headers=action("retry-job"))).status_code == 405
        assert (await client.post("/actions/retry-job/1", headers=action("retry-job"))).status_code == 404
        unknown = f"{job[:-4]}0000"
        assert (await client.post(f"/actions/retry-job/{unknown}", headers=action("retry-job"))).status_code == 404
        answer = await client.post(f"/actions/retry-job/{job}", headers=action("retry-job"))
        assert (answer.status_code, answer.json()["id"]) == (200, job)
        job = (await jobs.submit(tasks.echo, 1)).id
        await jobs.wait(job)
        again = await client.post(f"/actions/retry-job/{job}", headers=action("retry-job"))
        assert (again.status_code, "is succeeded" in again.json()["detail"]) == (409, True)
    async with looked_at(tmp_path) as (jobs, client):
        assert (await client.post(f"/actions/cancel-job/{job}", headers=action("cancel-job"))).status_code == 403


@pytest.mark.parametrize("trouble", ["slow", "away"])
async def test_a_store_that_does_not_answer_is_said_in_time(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(view, "PATIENCE_S", 0.05)

    async def overview(jobs: RunningJobs) -> Any:
        if trouble == "away":
            raise StoreUnavailable("the store is away")
        await asyncio.Event().wait()

    async with looked_at(tmp_path) as (_, client):
        monkeypatch.setattr(RunningJobs, "overview", overview)
        answer = await client.get("/jobs.json")
        assert answer.status_code == 503
        assert answer.json()["detail"] == (
            "the store is away" if trouble == "away" else "the job store does not answer"
        )
        assert (await client.get("/state.json")).status_code == 200
