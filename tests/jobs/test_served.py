"""Real servers: several processes share a store, any of them answers, and streams do not keep one from stopping."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import httpx

from tests.engine.gates import Gate
from tests.integrations.serving import PATIENCE_S, serving

if TYPE_CHECKING:
    import pytest

    from tests.integrations.serving import Server


async def asked_everywhere(server: Server, path: str, count: int) -> list[httpx.Response]:
    """Ask until each of the processes has answered; the kernel deals the connections out."""
    seen: set[int] = set()
    answers: list[httpx.Response] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(seen) < count:
            async with httpx.AsyncClient(
                base_url=server.url, timeout=PATIENCE_S, verify=False
            ) as http:  # a connection of its own
                seen.add((await http.get("/pids")).json()[0])
                answers.append(await http.get(path))
    return answers


async def test_any_process_answers_for_any_job(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEPOOL_JOBS_STORE", store_url)
    with Gate() as gate, serving("tests.jobs.app:app", "--workers", "2") as server:
        async with httpx.AsyncClient(
            base_url=server.url, timeout=PATIENCE_S, transport=httpx.AsyncHTTPTransport(verify=False, retries=5)
        ) as http:
            accepted = [await http.post("/hold", params={"address": gate.address, "value": n}) for n in range(2)]
            paths = [answer.headers["location"] for answer in accepted]
            visitors = [await gate.arrival() for _ in paths]  # both run, though each process has but one worker
            for path in paths:
                assert {answer.json()["state"] for answer in await asked_everywhere(server, path, 2)} == {"running"}
            for visitor in visitors:
                visitor.let_through()
            for number, path in enumerate(paths):
                async with http.stream("GET", f"{path}/events") as events:
                    text = "".join([part async for part in events.aiter_text()])
                assert '"state":"succeeded"' in text
                results = {answer.json() for answer in await asked_everywhere(server, f"{path}/result", 2)}
                assert results == {number}


async def test_a_stream_does_not_keep_a_server_from_stopping(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEPOOL_JOBS_STORE", sqlite_url)
    monkeypatch.setenv("LIFEPOOL_DRAIN_TIMEOUT", "0.1")
    with Gate() as gate, serving("tests.jobs.app:app") as server:
        async with httpx.AsyncClient(
            base_url=server.url, timeout=PATIENCE_S, transport=httpx.AsyncHTTPTransport(verify=False, retries=5)
        ) as http:
            accepted = await http.post("/hold", params={"address": gate.address, "value": 1})
            await gate.arrival()
            async with http.stream("GET", f"{accepted.headers['location']}/events") as events:
                lines = events.aiter_lines()
                async for line in lines:
                    if line.startswith("data:"):
                        break
                server.process.send_signal(signal.SIGTERM)
                rest = [line async for line in lines]  # it ends by itself
        await asyncio.to_thread(server.wait)
        assert not any("succeeded" in line for line in rest)
        assert "Traceback" not in server.output
