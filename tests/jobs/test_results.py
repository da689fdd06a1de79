"""Results over HTTP: streamed from the store in bounded memory, in parts, and never a part passed off as the whole."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from fastapi import FastAPI

from lifepool import Pool
from lifepool.jobs import JobNotFound, Jobs, WrongJobState, job_router
from lifepool.jobs.result_answers import matches, range_of
from lifepool.jobs.rules import Ending, Outcome
from lifepool.jobs.sealing import Sealer
from lifepool.jobs.store.parts import PART_BYTES
from tests.jobs import tasks
from tests.jobs.stores import LEASE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lifepool.jobs.values import Encoding

PATIENCE_S = 30.0
SECRET = "a secret"
MIB = 1 << 20


async def stored_result(jobs: Jobs, encoding: Encoding, body: bytes, secret: str | None = SECRET) -> str:
    """Store a job that has succeeded with this result, as a server would that has run it."""
    store = jobs._running().store
    await store.register(LEASE)
    job = await jobs.submit(tasks.echo, None)
    claim = await store.claim(1)
    assert claim is not None
    (mine,) = claim.jobs
    frame = Sealer(secret).seal("result", job.id, mine.function, encoding, body)
    assert await store.settle(job.id, mine.token, Outcome(Ending.SUCCEEDED, frame))
    return job.id


class Download:
    """A client that keeps nothing of the body: what it adds up, and the most memory that was in use meanwhile."""

    def __init__(self) -> None:
        self.status = 0
        self.size = 0
        self.digest = hashlib.sha256()
        self.longest = 0
        self.peak_rss = 0

    async def run(self, app: FastAPI, path: str) -> None:
        asked = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": [], "scheme": "http", "root_path": "",
            "client": ("127.0.0.1", 1), "server": ("test", 80),
        }  # fmt: skip

        async def receive() -> Any:
            await asyncio.Event().wait()  # it never leaves

        await app(asked, receive, self._send)

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        body = message.get("body", b"")
        self.size += len(body)
        self.digest.update(body)
        self.longest = max(self.longest, len(body))
        self.peak_rss = max(self.peak_rss, psutil.Process().memory_info().rss)


@asynccontextmanager
async def served(url: str, **options: Any) -> AsyncIterator[tuple[Jobs, FastAPI, httpx.AsyncClient]]:
    jobs = Jobs(None, store=url, **options)
    app = FastAPI(lifespan=jobs.lifespan)
    app.include_router(job_router(jobs), prefix="/jobs")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield jobs, app, client


async def test_a_large_result_is_streamed_in_bounded_memory(store_url: str) -> None:
    body = bytes(range(256)) * (64 * MIB // 256) + b"rest"
    async with served(store_url, secret=SECRET) as (jobs, app, _):
        job = await stored_result(jobs, "B", body)
        expected, size = hashlib.sha256(body).digest(), len(body)
        del body
        download = Download()
        before = psutil.Process().memory_info().rss
        tracemalloc.start()
        try:
            await download.run(app, f"/jobs/{job}/result")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (download.status, download.size, download.digest.digest()) == (200, size, expected)
        assert download.longest <= PART_BYTES
        assert peak < 4 * MIB
        assert download.peak_rss - before < 16 * MIB


async def test_plain_json_is_sent_as_it_is_stored_and_is_what_the_function_returned(sqlite_url: str) -> None:
    value = {"b": [1, 2.5, None, "ü"] * 20_000, "a": {"x": True}}
    async with Jobs(Pool(backend="inline"), store=sqlite_url) as jobs:
        job = await jobs.submit(tasks.echo, value)
        await jobs.wait(job.id, PATIENCE_S)
        assert (await jobs.open_result(job.id)).media_type == "application/json"
    async with served(sqlite_url) as (jobs, _, client):
        answer = await client.get(f"/jobs/{job.id}/result")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == value
        assert list(answer.json()) == ["b", "a"]
        assert int(answer.headers["content-length"]) == len(answer.content)


async def test_parts_of_a_result_can_be_asked_for(store_url: str) -> None:
    body = bytes(i % 251 for i in range(2 * PART_BYTES + 1000))
    async with served(store_url) as (jobs, _, client):
        path = f"/jobs/{await stored_result(jobs, 'B', body, None)}/result"
        whole = await client.get(path)
        assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, body, "bytes")
        for asked, start, stop in [
            ("bytes=0-9", 0, 10),
            (f"bytes={PART_BYTES - 5}-{PART_BYTES + 5}", PART_BYTES - 5, PART_BYTES + 6),
            (f"bytes={2 * PART_BYTES}-", 2 * PART_BYTES, len(body)),
            ("bytes=-7", len(body) - 7, len(body)),
            ("bytes=5-99999999999", 5, len(body)),
        ]:
            part = await client.get(path, headers={"Range": asked})
            assert (part.status_code, part.content) == (206, body[start:stop]), asked
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(body)}"
        beyond = await client.get(path, headers={"Range": f"bytes={len(body)}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(body)}")
        assert beyond.json()["type"] == "urn:lifepool:no-such-range"
        etag = whole.headers["etag"]
        same = await client.get(path, headers={"Range": "bytes=0-9", "If-Range": etag})
        assert (same.status_code, len(same.content)) == (206, 10)
        other = await client.get(path, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
        assert (other.status_code, len(other.content)) == (200, len(body))
        known = await client.get(path, headers={"If-None-Match": f'"x", W/{etag}', "Range": "bytes=0-9"})
        assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=-0", range(10, 10)),
        ("bytes=-99", range(10)),
        ("bytes=10-", range(10, 10)),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("bytes=1-2,4-5", None),
        ("lines=1-2", None),
        ("bytes=one-two", None),
    ],
)
def test_a_header_is_a_range_or_the_whole_is_the_answer(header: str, expected: range | None) -> None:
    assert range_of(header, 10) == expected


def test_a_star_matches_every_tag() -> None:
    assert matches("*", '"a"')
    assert not matches('"b", "c"', '"a"')


async def test_a_result_that_disappears_is_broken_off_and_not_passed_off_as_the_whole(store_url: str) -> None:
    async with served(store_url) as (jobs, app, _):
        job = await stored_result(jobs, "B", bytes(3 * PART_BYTES), None)
        opened = await jobs.open_result(job)
        chunks = opened.chunks()
        await anext(chunks)
        await jobs._running().store._write(
            lambda tx: tx.run("DELETE FROM lifepool_job_parts WHERE role = 'result' AND part > 0")
        )
        with pytest.raises(JobNotFound):
            await anext(chunks)
        download = Download()
        with pytest.raises(Exception, match="there is no job"):  # a server closes the connection then
            await download.run(app, f"/jobs/{job}/result")
        assert (download.status, download.size) == (200, PART_BYTES - 4)


async def test_a_result_that_somebody_has_changed_is_not_sent(store_url: str) -> None:
    async with served(store_url, secret=SECRET) as (jobs, _, client):
        job = await stored_result(jobs, "B", bytes(2 * PART_BYTES))
        assert (await client.get(f"/jobs/{job}/result")).status_code == 200
        await jobs._running().store._write(
            lambda tx: tx.run(
                "UPDATE lifepool_job_parts SET data = ? WHERE role = 'result' AND part = 1", b"x" * PART_BYTES
            )
        )
        answer = await client.get(f"/jobs/{job}/result")
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:lifepool:job-not-callable")


async def test_what_has_not_succeeded_has_no_result_to_open(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2)
        with pytest.raises(WrongJobState, match="it has no result"):
            await jobs.open_result(job)
        with pytest.raises(JobNotFound):
            await jobs.open_result("nothing")
