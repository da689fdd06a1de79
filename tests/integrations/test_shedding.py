"""Load shedding on a real server: who is refused, how, and what becomes of connection, body and tasks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from lifepool import Pool
from lifepool.integrations.shedding import EXEMPT, LoadShedding
from lifepool.integrations.shedding.controller import UNKNOWN_WAITING
from lifepool.integrations.shedding.refusals import DISCARD_MOST
from tests.integrations.serving import PATIENCE_S, serving
from tests.integrations.shedding_apps import SEEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.engine.gates import Gate

APPS = "tests.integrations.shedding_apps"
EARLY = "lifepool.integrations.uvicorn:SheddingProtocol"


class Overloaded:
    """A server whose worker stands at the gate, and with as many requests behind as are admitted."""

    def __init__(self, url: str, http: httpx.AsyncClient, requests: list[asyncio.Task[httpx.Response]]) -> None:
        self.url = url
        self.http = http
        self.requests = requests

    async def numbers(self) -> Any:
        return (await self.http.get(f"{self.url}/numbers")).json()

    async def refuse_one(self) -> None:
        """Have a request refused: from then on ``SheddingProtocol`` looks at those that come."""
        assert (await self.http.get(f"{self.url}/double")).status_code == 503

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield reader, writer
        finally:
            writer.close()


async def numbers_become(http: httpx.AsyncClient, url: str, **numbers: int) -> None:
    """Ask until the pool's statistics have these numbers."""
    async with asyncio.timeout(PATIENCE_S):
        while not numbers.items() <= (await http.get(url)).json().items():
            pass


@asynccontextmanager
async def overloaded(gate: Gate, *arguments: str) -> AsyncIterator[Overloaded]:
    """Fill a server: one request runs, ``UNKNOWN_WAITING`` wait."""
    transport = httpx.AsyncHTTPTransport(verify=False, retries=5, limits=httpx.Limits(max_connections=None))
    with serving(f"{APPS}:patient", "--factory", "--no-access-log", *arguments) as server:
        async with httpx.AsyncClient(timeout=PATIENCE_S, transport=transport) as http, asyncio.TaskGroup() as group:
            target = f"{server.url}/hold?address={quote(gate.address)}"
            requests = [group.create_task(http.post(target, content=b"x" * 100))]
            visitor = await gate.arrival()
            requests += [group.create_task(http.post(target, content=b"x" * 100)) for _ in range(UNKNOWN_WAITING)]
            full = Overloaded(server.url, http, requests)
            await numbers_become(http, f"{server.url}/numbers", queued=UNKNOWN_WAITING)
            yield full
            visitor.let_through()
            for _ in range(UNKNOWN_WAITING):
                (await gate.arrival()).let_through()


@pytest.mark.parametrize("http", ["httptools", "h11", EARLY])
async def test_who_is_refused_hears_it_at_once_and_who_was_admitted_is_served(gate: Gate, http: str) -> None:
    async with overloaded(gate, "--http", http) as full:
        answers = [await full.http.post(f"{full.url}/hold?address=no") for _ in range(20)]
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:lifepool:overloaded"
            assert "Retry-After" in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) == answer.json()["retry_after"] >= 1
        assert len({answer.headers["retry-after"] for answer in answers}) > 1, "they are not to come back together"
        counts = (await full.numbers())["requests"]
        assert counts == {"admitted": 1 + UNKNOWN_WAITING, "refused_pool": 20}
    assert [request.result().json() for request in full.requests] == [100] * (1 + UNKNOWN_WAITING)


@pytest.mark.parametrize("http", ["httptools", EARLY])
async def test_probes_and_exempt_paths_are_served_while_others_are_refused(gate: Gate, http: str) -> None:
    async with overloaded(gate, "--http", http) as full:
        await full.refuse_one()
        for path in ("/livez", "/readyz", "/numbers"):
            assert (await full.http.get(full.url + path)).status_code == 200
        assert (await full.http.get(full.url + "/static/nothing.js")).status_code == 404, "it got to the app"
        assert (await full.http.get(full.url + "/double")).status_code == 503
    assert "/health" in EXEMPT


@pytest.mark.parametrize("http", ["httptools", "h11", EARLY])
async def test_a_refused_request_leaves_its_connection_usable_if_its_body_is_small(gate: Gate, http: str) -> None:
    async with overloaded(gate, "--http", http) as full, full.connection() as (reader, writer):
        await full.refuse_one()
        for _ in range(2):
            writer.write(_post(200_000) + b"x" * 100_000)
            await writer.drain()
            writer.write(b"x" * 100_000)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert b"connection: close" not in head
            await reader.readexactly(_length(head))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: l\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("http", ["httptools", EARLY])
async def test_a_large_body_is_not_waited_for_and_the_connection_ends(gate: Gate, http: str) -> None:
    async with overloaded(gate, "--http", http) as full, full.connection() as (reader, writer):
        await full.refuse_one()
        writer.write(_post(DISCARD_MOST + 1))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in answer


@pytest.mark.parametrize("http", ["httptools", EARLY])
async def test_a_body_that_does_not_come_holds_a_refusal_for_a_moment_only(gate: Gate, http: str) -> None:
    async with overloaded(gate, "--http", http) as full, full.connection() as (reader, writer):
        await full.refuse_one()
        writer.write(_post(1000) + b"x")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in answer


@pytest.mark.parametrize("http", ["httptools", EARLY])
async def test_a_client_that_asks_first_is_not_told_to_send_its_body(gate: Gate, http: str) -> None:
    async with overloaded(gate, "--http", http) as full, full.connection() as (reader, writer):
        await full.refuse_one()
        writer.write(_post(1000, b"Expect: 100-continue\r\n"))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in answer


async def test_what_the_protocol_refuses_passes_through_no_middleware(gate: Gate) -> None:
    async with overloaded(gate, "--http", EARLY) as full:
        await full.refuse_one()
        answers = [await full.http.get(full.url + path) for path in ("/double", "/numbers")]
        assert [answer.status_code for answer in answers] == [503, 200]
        assert [SEEN in answer.headers for answer in answers] == [False, True]


async def test_what_has_waited_in_vain_is_dropped_and_what_has_begun_is_not(gate: Gate) -> None:
    with serving(f"{APPS}:impatient", "--factory") as server:
        async with httpx.AsyncClient(
            timeout=PATIENCE_S, transport=httpx.AsyncHTTPTransport(verify=False, retries=5)
        ) as http:
            for _ in range(10):  # so that run times are known
                assert (await http.get(f"{server.url}/double")).json() == 42
            async with asyncio.TaskGroup() as group:
                begun = group.create_task(http.post(f"{server.url}/twice?address={quote(gate.address)}"))
                visitor = await gate.arrival()
                waiting = [group.create_task(http.get(f"{server.url}/double")) for _ in range(3)]
                dropped = [await each for each in waiting]
                visitor.let_through()
            assert [answer.status_code for answer in dropped] == [503] * 3
            assert all("retry-after" in answer.headers for answer in dropped)
            assert begun.result().json() == [1, 42]
            numbers = (await http.get(f"{server.url}/numbers")).json()["requests"]
            # One that comes when the others have waited for too long already is refused at once.
            assert numbers["dropped"] >= 1
            assert sum(numbers.get(kind, 0) for kind in ("dropped", "refused_pool", "refused_loop")) == 3


async def test_any_asgi_app_has_it_and_the_task_of_a_client_that_leaves_is_dropped(gate: Gate) -> None:
    with serving(f"{APPS}:plain") as server:
        async with httpx.AsyncClient(
            timeout=PATIENCE_S, transport=httpx.AsyncHTTPTransport(verify=False, retries=5)
        ) as http:
            running = asyncio.ensure_future(http.get(f"{server.url}/?{gate.address}"))
            visitor = await gate.arrival()
            leaves = asyncio.ensure_future(http.get(f"{server.url}/?{gate.address}"))
            await numbers_become(http, f"{server.url}/health", queued=1)
            leaves.cancel()
            await numbers_become(http, f"{server.url}/health", cancelled=1)
            visitor.let_through()
            assert (await running).text == "done"


async def test_an_app_that_is_started_again_on_another_loop_is_served() -> None:
    """As in tests that make a client for each test: the timer of the loop before will never run again."""
    pool = Pool(backend="inline")
    answers: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        answers.extend([message["status"]] if "status" in message else [])

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    shedding = LoadShedding(app, pool=pool)

    def once() -> None:
        scope = {"type": "http", "path": "/", "headers": [], "method": "GET", "http_version": "1.1"}
        asyncio.run(shedding(scope, receive, send))

    await asyncio.to_thread(once)
    shedding._meter.due -= 60.0  # so long ago
    await asyncio.to_thread(once)
    assert answers == [200, 200]


def test_without_a_pool_it_says_what_to_write() -> None:
    async def app(*_: Any) -> None: ...

    with pytest.raises(TypeError, match=r"add_middleware\(LoadShedding, pool=pool\)"):
        LoadShedding(app, pool=[])
    with pytest.raises(TypeError, match="expected paths"):
        LoadShedding(app, pool=Pool(), exempt=[1])  # type: ignore[list-item]


def _post(length: int, more: bytes = b"") -> bytes:
    return b"POST /hold?address=no HTTP/1.1\r\nHost: l\r\n%bContent-Length: %d\r\n\r\n" % (more, length)


def _length(head: bytes) -> int:
    return int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
