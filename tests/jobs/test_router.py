"""The HTTP interface: any process answers for any job, strangers see none, streams end by themselves."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI, Request, Response

from lifepool import Pool
from lifepool.integrations.fastapi import install
from lifepool.jobs import Job, Jobs, JobView, job_router
from tests.engine.gates import Gate
from tests.jobs import tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

PATIENCE_S = 30.0


@asynccontextmanager
async def served(jobs: Jobs, prefix: str = "/jobs", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(lifespan=jobs.lifespan)
    app.include_router(job_router(jobs, **options), prefix=prefix)
    if jobs.pool is not None:
        install(app, jobs.pool)

    @app.post("/reports", status_code=202)
    async def start(response: Response, one: int, key: str | None = None) -> JobView:
        return jobs.accepted(await jobs.submit(tasks.add, one, 1, idempotency_key=key), response)

    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


def inline(url: str, **options: Any) -> Jobs:
    return Jobs(Pool(backend="inline"), store=url, **options)


async def test_from_post_to_the_result(sqlite_url: str) -> None:
    jobs = inline(sqlite_url)
    async with served(jobs, prefix="/api/jobs") as client:
        accepted = await client.post("/reports", params={"one": 2})
        job_id = accepted.json()["id"]
        assert accepted.status_code == 202
        assert accepted.headers["location"] == f"/api/jobs/{job_id}"
        assert accepted.headers["retry-after"] == "1"
        await jobs.wait(job_id, PATIENCE_S)
        found = await client.get(accepted.headers["location"])
        body = found.json()
        assert (found.status_code, body["state"], body["result"], body["attempts"]) == (200, "succeeded", 3, 1)
        assert body["created_at"] <= body["started_at"] <= body["finished_at"] <= body["expires_at"]
        result = await client.get(f"/api/jobs/{job_id}/result")
        assert (result.json(), result.headers["content-type"]) == (3, "application/json")
        etag = result.headers["etag"]
        again = await client.get(f"/api/jobs/{job_id}/result", headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_key_with_another_payload_is_a_conflict(sqlite_url: str) -> None:
    async with served(inline(sqlite_url)) as client:
        first = await client.post("/reports", params={"one": 1, "key": "k"})
        assert (await client.post("/reports", params={"one": 1, "key": "k"})).json()["id"] == first.json()["id"]
        conflict = await client.post("/reports", params={"one": 2, "key": "k"})
        assert conflict.status_code == 409
        assert conflict.headers["content-type"] == "application/problem+json"
        assert conflict.json()["type"] == "urn:lifepool:idempotency-conflict"


async def test_a_failed_job_says_no_more_than_strangers_may_know(sqlite_url: str) -> None:
    jobs = inline(sqlite_url)
    async with served(jobs) as client:
        job = await jobs.submit(tasks.fail, "the password is wrong")
        await jobs.wait(job.id, PATIENCE_S)
        body = (await client.get(f"/jobs/{job.id}")).json()
        assert body["state"] == "failed"
        assert body["error"]["detail"] == "the work failed"
        result = await client.get(f"/jobs/{job.id}/result")
        assert (result.status_code, result.json()["type"]) == (409, "urn:lifepool:job-failed")
        assert "password" not in json.dumps(body) + result.text
    async with served(inline(sqlite_url), details=True) as client:
        body = (await client.get(f"/jobs/{job.id}")).json()
        assert body["error"]["detail"] == "builtins.ValueError: the password is wrong"


async def test_what_is_not_there_is_a_problem(sqlite_url: str) -> None:
    async with served(inline(sqlite_url)) as client:
        for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/result"), ("GET", "/events")]:
            answer = await client.request(method, f"/jobs/nothing{path}")
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:lifepool:job-not-found")


async def test_cancel_and_retry(sqlite_url: str) -> None:
    jobs = inline(sqlite_url)
    async with served(jobs) as client:
        job = await jobs.submit(tasks.add, 1, 2, run_at=4e9)
        early = await client.get(f"/jobs/{job.id}/result")
        assert (early.status_code, early.headers["retry-after"]) == (409, "1")
        assert (await client.delete(f"/jobs/{job.id}")).json()["state"] == "cancelled"
        retried = await client.post(f"/jobs/{job.id}/retry")
        assert (retried.status_code, retried.json()["state"]) == (202, "queued")
        await jobs.wait(job.id, PATIENCE_S)
        refused = await client.post(f"/jobs/{job.id}/retry")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:lifepool:wrong-job-state")


async def test_a_running_job_is_cancelled_by_a_process_that_does_not_run_it(store_url: str) -> None:
    with Gate() as gate:
        async with Jobs(Pool(max_workers=1), store=store_url) as jobs, served(Jobs(None, store=store_url)) as client:
            job = await jobs.submit(tasks.hold, gate.address)
            visitor = await gate.arrival()
            asked = await client.delete(f"/jobs/{job.id}")
            assert (asked.status_code, asked.json()["cancel_requested"]) == (202, True)
            await visitor.gone()
            async with asyncio.timeout(PATIENCE_S):
                events = [event async for event in events_of(client, job.id)]
            assert events[-1]["data"]["state"] == "cancelled"


async def test_the_list_is_paged_and_filtered(sqlite_url: str) -> None:
    jobs = Jobs(None, store=sqlite_url)
    async with served(jobs) as client:
        ids = [(await jobs.submit(tasks.add, n, 0, tags=[f"tag{n}"], name="sum")).id for n in range(3)]
        page = (await client.get("/jobs", params={"limit": 2, "name": "sum", "state": "queued"})).json()
        rest = (await client.get("/jobs", params={"limit": 2, "name": "sum", "cursor": page["next"]})).json()
        assert [job["id"] for job in page["jobs"] + rest["jobs"]] == ids[::-1]
        assert rest["next"] is None
        tagged = (await client.get("/jobs", params={"tag": "tag1", "state": ["queued", "running"]})).json()
        assert [job["id"] for job in tagged["jobs"]] == [ids[1]]
        assert (await client.get("/jobs", params={"cursor": "nonsense"})).status_code == 400
        assert (await client.get("/jobs", params={"state": "asleep"})).status_code == 422


async def test_strangers_are_told_that_there_is_no_such_job(sqlite_url: str) -> None:
    async def owns(request: Request, job: Job) -> bool:
        return f"owner:{request.headers.get('x-user')}" in job.tags

    jobs = Jobs(None, store=sqlite_url)
    async with served(jobs, access=owns) as client:
        job = await jobs.submit(tasks.add, 1, 2, tags=["owner:ann"])
        ann, bob = {"x-user": "ann"}, {"x-user": "bob"}
        assert (await client.get(f"/jobs/{job.id}", headers=ann)).status_code == 200
        assert len((await client.get("/jobs", headers=ann)).json()["jobs"]) == 1
        assert (await client.get("/jobs", headers=bob)).json()["jobs"] == []
        for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/result"), ("GET", "/events")]:
            assert (await client.request(method, f"/jobs/{job.id}{path}", headers=bob)).status_code == 404
        assert (await client.delete(f"/jobs/{job.id}", headers=ann)).status_code == 200


async def test_bytes_come_as_they_are_and_what_json_has_no_type_for_as_text(sqlite_url: str) -> None:
    jobs = inline(sqlite_url)
    async with served(jobs) as client:
        raw = await jobs.submit(tasks.echo, bytes(range(256)) * 2000)
        odd = await jobs.submit(tasks.echo, {"raw": b"\xff", "pair": (1, 2), "far": math.inf})
        await jobs.wait(raw.id, PATIENCE_S)
        await jobs.wait(odd.id, PATIENCE_S)
        answer = await client.get(f"/jobs/{raw.id}/result")
        assert (answer.headers["content-type"], len(answer.content)) == ("application/octet-stream", 512_000)
        assert (await client.get(f"/jobs/{raw.id}")).json()["result"] is None  # too large to be shown within
        assert (await client.get(f"/jobs/{odd.id}/result")).json() == {"raw": "/w==", "pair": [1, 2], "far": None}


async def events_of(client: httpx.AsyncClient, job_id: str, last: str | None = None) -> AsyncIterator[dict[str, Any]]:
    headers = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", f"/jobs/{job_id}/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        event: dict[str, Any] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if not line and "data" in event:
                yield event
                event = {}
            elif name:
                event[name] = json.loads(value) if name == "data" else value


def after_the_first_event(patch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do something when a stream has sent its first event, and asks for the next one."""
    changes = Jobs.changes

    async def told(self: Jobs, job_id: str, **options: Any) -> AsyncIterator[Job]:
        is_first = True
        async for found in changes(self, job_id, **options):
            yield found
            if is_first:
                is_first = False
                then()

    patch.setattr(Jobs, "changes", told)


async def test_events_tell_of_state_and_progress_and_end_with_the_job(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate() as gate:
        jobs = Jobs(Pool(max_workers=1), store=sqlite_url)
        async with served(jobs) as client:
            job = await jobs.submit(tasks.report_and_hold, gate.address)
            visitor = await gate.arrival()
            async for found in jobs.changes(job.id):
                if found.progress is not None:
                    break
            after_the_first_event(monkeypatch, visitor.let_through)
            async with asyncio.timeout(PATIENCE_S):
                events = [event async for event in events_of(client, job.id)]
            assert events[0]["data"]["progress"] == {
                "done": 3,
                "total": 7,
                "message": "three of seven",
                "unit": "steps",
            }
            assert (events[-1]["event"], events[-1]["data"]["state"]) == ("state", "succeeded")
            numbers = [int(event["id"]) for event in events]
            assert numbers == sorted(set(numbers))
            # A client that comes again with the last id has missed nothing, and does not come again.
            seen = await client.get(f"/jobs/{job.id}/events", headers={"Last-Event-ID": str(numbers[-1])})
            assert seen.status_code == 204
            rest = [event async for event in events_of(client, job.id, str(numbers[-1] - 1))]
            assert [int(event["id"]) for event in rest] == [numbers[-1]]


async def test_a_stream_ends_when_the_server_is_to_stop(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = inline(sqlite_url)
    async with served(jobs) as client:
        job = await jobs.submit(tasks.add, 1, 2, run_at=4e9)
        after_the_first_event(monkeypatch, lambda: monkeypatch.setattr(Jobs, "is_stopping", True))
        async with asyncio.timeout(PATIENCE_S):
            events = [event async for event in events_of(client, job.id)]
        assert [event["data"]["state"] for event in events] == ["queued"]


async def test_the_interface_is_documented(sqlite_url: str) -> None:
    async with served(inline(sqlite_url)) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert set(paths) >= {"/jobs", "/jobs/{job_id}", "/jobs/{job_id}/result", "/jobs/{job_id}/events"}
        assert set(paths["/jobs/{job_id}"]) == {"get", "delete"}
        assert {"200", "404", "503"} <= set(paths["/jobs/{job_id}"]["get"]["responses"])
        assert "409" in paths["/jobs/{job_id}/retry"]["post"]["responses"]
