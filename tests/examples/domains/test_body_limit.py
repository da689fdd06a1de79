"""What a body may cost: size, time and memory; under every path by which the service can be reached."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.domains import body_limit, problems
from examples.domains.app import LIMITS, app
from examples.domains.body_limit import BodyLimit, route_path
from examples.domains.limits import Limits
from tests.examples.domains.serving import client, started
from tests.examples.domains.test_app import assert_problem

pytestmark = pytest.mark.usefixtures("lasting_app")

JSON = {"Content-Type": "application/json"}
LARGE = json.dumps({"data": "x" * LIMITS.max_body}).encode()
PATIENCE_S = 20


def guarded(limits: Limits, is_ending: Callable[[], bool] = lambda: False) -> httpx.AsyncClient:
    """Run an app that reads its body, behind the middleware."""
    echo = FastAPI()
    problems.install(echo)

    @echo.post("/{path}")
    async def count(request: Request) -> int:
        return len(await request.body())

    middleware = BodyLimit(echo, {"/streamed": (1000, "hint")}, "hint", lambda: limits, is_ending)
    echo.add_middleware(_Shared, middleware)
    return httpx.AsyncClient(transport=httpx.ASGITransport(echo), base_url="http://test")


class _Shared:
    """Put one instance of a middleware in front of the app."""

    def __init__(self, app: ASGIApp, middleware: BodyLimit) -> None:
        self.middleware = middleware
        middleware.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.middleware(scope, receive, send)


async def stalled(*pieces: bytes, until: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    await (until or asyncio.Event()).wait()


# ---- size ----


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/addContent", "", "/addContent"),
        ("/addContent", "/api", "/addContent"),
        ("/api/addContent", "/api", "/addContent"),
        ("/api/addContent", "/api/", "/addContent"),
        ("/apiaddContent", "/api", "/apiaddContent"),
        ("/api", "/api", "/api"),
    ],
)
def test_the_path_is_that_of_the_route(path: str, root: str, expected: str) -> None:
    assert route_path({"path": path, "root_path": root}) == expected


async def test_a_mounted_service_refuses_large_bodies_too() -> None:
    outer = FastAPI()
    outer.mount("/tools", app)
    async with (
        started(),
        httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://t") as http,
    ):
        assert_problem(await http.post("/tools/addContent", content=LARGE, headers=JSON), 413, "larger")
        fine = await http.post("/tools/addContent", json={"data": "www.example.com"})
        assert fine.json()["count"] == 1
        assert (await http.post("/tools/upload", content=b"x" * (LIMITS.max_body + 1))).status_code == 200


async def test_a_service_behind_a_root_path_refuses_large_bodies_too() -> None:
    async with started() as running_app:
        transport = httpx.ASGITransport(running_app, root_path="/api")
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            for path in ("/api/addContent", "/addContent"):
                assert_problem(await http.post(path, content=LARGE, headers=JSON), 413, "larger")


async def test_a_path_that_nobody_thought_of_is_limited_as_well() -> None:
    async with guarded(Limits(max_body=10)) as http:
        assert (await http.post("/other", content=b"x" * 11)).status_code == 413
        assert (await http.post("/streamed", content=b"x" * 11)).json() == 11


# ---- time ----


async def test_a_body_that_stalls_is_refused_and_its_connection_is_closed() -> None:
    async with guarded(Limits(read_timeout=0, min_rate=1)) as http:
        response = await http.post("/other", content=stalled(b"x"))
    assert_problem(response, 408, "No data came")
    assert response.headers["Connection"] == "close"


async def test_a_body_that_drips_is_too_slow_although_it_never_stalls() -> None:
    async def drips() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.001)

    limits = Limits(max_body=10**9, read_timeout=0.1, min_rate=10**9)  # type: ignore[arg-type]  # shorter than a second
    async with guarded(limits) as http:
        assert_problem(await asyncio.wait_for(http.post("/other", content=drips()), PATIENCE_S), 408, "less than")


def body_of(limits: Limits, is_ending: Callable[[], bool] = lambda: False) -> body_limit._Body:
    guard = BodyLimit(FastAPI(), {}, "hint", lambda: limits, is_ending)
    return body_limit._Body(guard, limits, Headers(), 1000, "hint", is_buffered=True)


async def test_the_time_that_a_handler_takes_between_two_reads_is_not_its_clients() -> None:
    body, now = body_of(Limits()), asyncio.get_running_loop().time()
    clock = [now - 1000, now - 1000, now, now]
    body._clock = lambda: clock.pop(0)

    async def at_once() -> Message:
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def in_the_next_turn() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"y", "more_body": False}

    assert (await body.receive(at_once))["body"] == b"x"
    assert (await body.receive(in_the_next_turn))["body"] == b"y"


async def test_two_who_wait_for_a_body_at_a_time_are_bounded_both_and_leave_no_timer_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body_limit, "LOOK", 0.0)
    looks = 0

    def is_ending() -> bool:
        nonlocal looks
        looks += 1
        return False

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    body = body_of(Limits(read_timeout=0.1), is_ending)  # type: ignore[arg-type]  # shorter than a second
    async with asyncio.timeout(PATIENCE_S):
        outcomes = await asyncio.gather(body.receive(never), body.receive(never), return_exceptions=True)
    assert [getattr(each, "status_code", None) for each in outcomes] == [408, 408]
    before = looks
    for _ in range(10):
        await asyncio.sleep(0)
    assert looks == before > 0


async def test_a_server_that_is_stopped_does_not_wait_for_stalled_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "ENDING_GRACE", 0.0)
    monkeypatch.setattr(body_limit, "LOOK", 0.001)
    stopped = asyncio.Event()
    async with guarded(Limits(), stopped.is_set) as http:
        asking = asyncio.ensure_future(http.post("/other", content=stalled(b"x")))
        await asyncio.sleep(0)
        stopped.set()
        response = await asyncio.wait_for(asking, PATIENCE_S)
    assert_problem(response, 503, "being stopped")
    assert response.headers["Retry-After"] == "1"


# ---- memory ----


async def test_all_bodies_together_are_bounded_and_one_alone_is_always_taken() -> None:
    go_on = asyncio.Event()
    buffered = asyncio.Event()

    async def first() -> AsyncIterator[bytes]:
        yield b"x" * 80
        buffered.set()
        await go_on.wait()
        yield b"x" * 80

    async with guarded(Limits(max_buffered=100)) as http:
        asking = asyncio.ensure_future(http.post("/other", content=first()))
        await asyncio.wait_for(buffered.wait(), PATIENCE_S)
        refused = await http.post("/other", content=b"x" * 30)
        assert_problem(refused, 503, "has as many")
        assert refused.headers["Retry-After"] == "2"
        assert (await http.post("/streamed", content=b"x" * 30)).status_code == 200  # not buffered
        go_on.set()
        assert (await asyncio.wait_for(asking, PATIENCE_S)).json() == 160
        assert (await http.post("/other", content=b"x" * 90)).json() == 90


async def test_uploads_at_a_time_are_bounded() -> None:
    go_on, streams = asyncio.Event(), asyncio.Event()

    async def first() -> AsyncIterator[bytes]:
        yield b"x"
        streams.set()
        await go_on.wait()

    async with guarded(Limits(max_uploads=1)) as http:
        asking = asyncio.ensure_future(http.post("/streamed", content=first()))
        await asyncio.wait_for(streams.wait(), PATIENCE_S)
        assert_problem(await http.post("/streamed", content=b"x"), 503, "as many uploads")
        go_on.set()
        assert (await asyncio.wait_for(asking, PATIENCE_S)).json() == 1
        assert (await http.post("/streamed", content=b"xx")).json() == 2


# ---- packed bodies, HEAD ----


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"\x1f\x8b\x08\x00", {}, "gzip"),
        (b"\x1f\x8b\x08\x00", {"Content-Encoding": "gzip"}, "gzip"),
        (b'{"data": "x"}', {"Content-Encoding": "br"}, "br"),
        (b'{"data": "x"}', {"Content-Encoding": "deflate"}, "deflate"),
    ],
)
async def test_a_packed_json_is_answered_with_where_to_go(body: bytes, headers: dict[str, str], words: str) -> None:
    async with client() as http:
        response = await http.post("/addContent", content=body, headers=JSON | headers)
    assert_problem(response, 415, words)
    assert "/upload" in response.json()["hint"]


@pytest.mark.parametrize(
    "path", ["/", "/health", "/statistics", "/livez", "/openapi.json", "/static/page.js", "/pool/"]
)
async def test_head_is_get_without_the_body(path: str) -> None:
    async with client() as http:
        head, get = await http.head(path), await http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_head_on_what_takes_post_alone_says_so() -> None:
    async with client() as http:
        for path in ("/addContent", "/upload"):
            response = await http.head(path)
            assert (response.status_code, response.headers["Allow"]) == (405, "POST")


# ---- what is taken is answered ----


async def test_a_text_that_is_not_done_in_time_is_answered_with_what_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.domains.app.LIMITS", Limits(task_timeout=0))
    text = " ".join(f"a{n}.com" for n in range(80_000))[: LIMITS.max_body - 20]
    async with client() as http:
        monkeypatch.setattr("examples.domains.app.SECONDS_PER_CHARACTER", 1e-9)
        response: Any = await http.post("/addContent", json={"data": text})
    assert_problem(response, 504, "not searched within")
    assert "loop" not in response.text


async def test_what_the_largest_text_is_given_grows_with_it() -> None:
    from examples.domains.app import timeout_for

    assert timeout_for(LIMITS.max_body) - timeout_for(0) == pytest.approx(20)
