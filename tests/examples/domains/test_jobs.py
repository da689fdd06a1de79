"""Big uploads as jobs: kept until they were searched, answered as `/upload` does, and nobody else's business."""

from __future__ import annotations

import asyncio
import gzip
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from examples.domains import app as service
from examples.domains import kept
from examples.domains.limits import Limits
from tests.examples.domains.serving import client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

TEXT = "see www.example.com and bob@mail.example.co.uk, www.example.com again. "
PATIENCE_S = 30.0

pytestmark = pytest.mark.usefixtures("lasting_app")


def uploads() -> list[Path]:
    return list((kept.folder() / "uploads").iterdir())


async def ended(http: httpx.AsyncClient, accepted: httpx.Response) -> dict[str, Any]:
    """Follow a job to its end."""
    assert accepted.status_code == 202
    assert accepted.headers["location"] == f"/jobs/{accepted.json()['id']}"
    async with asyncio.timeout(PATIENCE_S):
        events = await http.get(f"{accepted.headers['location']}/events")
        assert events.text.rpartition("event: ")[2].startswith("state")
    job: dict[str, Any] = (await http.get(accepted.headers["location"])).json()
    return job


async def emptied(http: httpx.AsyncClient) -> None:
    """Wait until no upload is kept: they are deleted soon after their jobs have ended."""
    async with asyncio.timeout(PATIENCE_S):
        while uploads():
            await http.get("/health")
            await asyncio.sleep(0)  # a request without a network waits for nothing, and the loop would do nothing else


@pytest.mark.parametrize("kind", ["text", "gzip", "form"])
async def test_the_result_is_what_upload_answers_and_the_file_is_deleted(kind: str) -> None:
    data = TEXT.encode() * 1000
    bodies: dict[str, dict[str, Any]] = {
        "text": {"content": data, "headers": {"content-type": "text/plain"}},
        "gzip": {"content": gzip.compress(data), "headers": {"content-type": "application/gzip"}},
        "form": {"files": [("file", ("a.txt", data)), ("file", ("b.txt.gz", gzip.compress(data)))]},
    }
    body = bodies[kind]
    async with client() as http:
        answered = (await http.post("/upload", **body)).json()
        job = await ended(http, await http.post("/jobs", **body))
        assert job["state"] == "succeeded"
        assert job["progress"]["done"] == job["progress"]["total"] > 0
        assert (await http.get(f"/jobs/{job['id']}/result")).json() == answered
        await emptied(http)


async def test_what_can_not_be_read_is_refused_at_once_or_as_the_result() -> None:
    async with client() as http:
        refused = await http.post("/jobs", content=b"%PDF", headers={"content-type": "application/pdf"})
        assert (refused.status_code, refused.json()["status"]) == (415, 415)
        damaged = gzip.compress(TEXT.encode())[:-4]
        job = await ended(http, await http.post("/jobs", content=damaged))
        assert job["state"] == "succeeded"
        assert (job["result"]["status"], "damaged" in job["result"]["detail"]) == ("refused", True)


async def test_nobody_gets_a_list_and_a_job_is_seen_by_those_who_know_its_id() -> None:
    async with client() as http:
        job = await ended(http, await http.post("/jobs", content=TEXT.encode()))
        assert (await http.get("/jobs")).json()["jobs"] == []
        assert job["id"] not in (await http.get("/pool/jobs.json")).text


async def test_a_body_that_does_not_come_whole_or_has_no_room_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        await asyncio.Event().wait()

    async with client() as http:
        await emptied(http)
        monkeypatch.setattr(service, "LIMITS", Limits(read_timeout=1))
        assert (await http.post("/jobs", content=stalls())).status_code == 408
        assert uploads() == []
        monkeypatch.setattr(service, "LIMITS", Limits(max_kept=10))
        full = await http.post("/jobs", content=TEXT.encode())
        assert (full.status_code, "keeps as many" in full.json()["detail"]) == (507, True)
        assert uploads() == []


def test_uploads_that_nobody_came_for_are_deleted_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOMAINS_FOLDER", str(tmp_path / "new"))
    kept.prepare()
    assert kept.folder().stat().st_mode & 0o777 == 0o700
    for name, old in (("stale", kept.STALE + 10), ("fresh", 10)):
        kept.path_of(name).write_bytes(b"")
        os.utime(kept.path_of(name), (time.time() - old,) * 2)
    kept.prepare()
    assert [path.name for path in uploads()] == ["fresh"]
    kept.forget({"type": "job.failed", "tags": ["fresh"]})
    assert len(uploads()) == 1, "it may be tried again"
    kept.forget({"type": "job.succeeded", "tags": ["fresh"]})
    kept.forget({"type": "job.succeeded", "tags": ["fresh"]})
    assert uploads() == []
