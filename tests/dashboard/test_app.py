"""The page's server side: where it answers, to whom, with which headers, and what an action takes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.routing import Mount

from lifepool import Pool, QueueFull
from lifepool.dashboard import dashboard
from lifepool.dashboard.app import route_path
from lifepool.dashboard.static_files import files
from tests import tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.engine.gates import Gate


@contextlib.asynccontextmanager
async def browser(app: Any, prefix: str = "", **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://test{prefix}", headers=headers) as client:
        yield client


async def statuses(app: Any, *requests: tuple[str, str], **headers: str) -> list[int]:
    async with browser(app, **headers) as client:
        return [(await client.request(method, path)).status_code for method, path in requests]


# --- where ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "root_path", "expected"),
    [
        ("/", "", "/"),
        ("/state.json", "", "/state.json"),
        ("/pool/", "/pool", "/"),
        ("/pool", "/pool", ""),
        ("/pool/static/page.css", "/pool", "/static/page.css"),
        ("/api/pool/state.json", "/api/pool", "/state.json"),  # a server's root_path, kept by the proxy
        ("/pool/state.json", "/api/pool", "/state.json"),  # the same, taken away by the proxy
        ("/state.json", "/pool", "/state.json"),  # frameworks that cut the path themselves
        ("/poolside/", "/pool", "/poolside/"),
    ],
)
def test_the_path_below_the_mount_is_found(path: str, root_path: str, expected: str) -> None:
    assert route_path({"path": path, "root_path": root_path}) == expected


@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
@pytest.mark.parametrize("framework", [FastAPI, Starlette])
async def test_it_can_be_mounted_anywhere(framework: type[FastAPI | Starlette], root_path: str) -> None:
    app = Starlette(routes=[Mount("/ops", app=(inner := framework()))])
    inner.mount("/pool", dashboard(Pool(max_workers=1)))
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        prefix = f"{root_path}/ops/pool"
        page = await client.get(f"{prefix}/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for name in files():
            if name != "index.html":
                assert (await client.get(f"{prefix}/static/{name}")).status_code == 200, name
        state = (await client.get(f"{prefix}/state.json")).json()
        assert (state["pool"]["name"], state["pool"]["state"], state["pool"]["ready"]) == ("pool", "created", False)


async def test_without_the_slash_at_the_end_it_leads_there_relatively() -> None:
    async with browser(dashboard(Pool(max_workers=1))) as client:
        client._transport.root_path = "/deep/pool"  # type: ignore[attr-defined]
        answer = await client.get("/deep/pool")
    assert (answer.status_code, answer.headers["location"]) == (307, "pool/")


async def test_every_address_in_the_page_is_relative_and_there() -> None:
    page = files()["index.html"].content.decode()
    assert not [part for part in page.split('"') if part.startswith(("/", "http:", "https:", "//"))]
    for name, file in files().items():
        assert b"http" not in file.content.replace(b"http://www.w3.org/2000/svg", b""), name
        assert b"innerHTML" not in file.content, name
        assert b"insertAdjacentHTML" not in file.content, name


async def test_what_is_not_there_is_said_to_be() -> None:
    app = dashboard(Pool(max_workers=1))
    wrong = ["/nothing", "/static/", "/static/nothing.js", "/static/../app.py", "/tasks/1.json", "/tasks/x.json",
             "/tasks/1²3.json", "/failures/1.json", "/page.css", "/index.html", "/state.json/1"]  # fmt: skip
    assert set(await statuses(app, *[("GET", path) for path in wrong])) == {404}
    assert await statuses(app, ("POST", "/"), ("DELETE", "/state.json"), ("GET", "/actions/drain")) == [405, 405, 405]


async def test_a_head_is_a_get_without_a_body() -> None:
    async with browser(dashboard(Pool(max_workers=1))) as client:
        head, get = await client.head("/"), await client.get("/")
    assert head.content == b""
    assert head.headers == get.headers


async def test_other_protocols_are_turned_away() -> None:
    app, sent = dashboard(Pool(max_workers=1)), []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        raise AssertionError

    await app({"type": "websocket"}, receive, send)
    assert sent == ["websocket.close"]
    with pytest.raises(NotImplementedError):
        await app({"type": "lifespan"}, receive, send)


# --- headers --------------------------------------------------------------------------------------------------------


async def test_every_answer_has_the_strict_headers() -> None:
    async with browser(dashboard(Pool(max_workers=1))) as client:
        for path in ("/", "/static/page.css", "/state.json", "/nothing", "/actions/drain"):
            headers = (await client.get(path)).headers
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == "'self'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers.get("cache-control") in ("no-cache", "no-store"), path


async def test_a_file_that_the_browser_has_is_not_sent_again() -> None:
    async with browser(dashboard(Pool(max_workers=1))) as client:
        tag = (await client.get("/static/main.js")).headers["etag"]
        again = await client.get("/static/main.js", headers={"if-none-match": f"W/{tag}, {tag}"})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await client.get("/static/main.js", headers={"if-none-match": '"old"'})).status_code == 200


# --- the documents -------------------------------------------------------------------------------------------------


async def test_the_state_tells_of_tasks_failures_and_workers() -> None:
    pool = Pool(max_workers=1, name="documents")
    async with pool, browser(dashboard(pool)) as client:
        await pool.run(tasks.double, 1)
        with pytest.raises(ValueError, match="no such row"):
            await pool.run(tasks.fail, "no such row")
        await settle_into_state(client)
        state = (await client.get("/state.json")).json()
        assert (state["pool"]["state"], state["pool"]["ready"], state["actions"]) == ("running", True, [])
        assert (state["counts"]["completed"], state["counts"]["failed"]) == (1, 1)
        (worker,) = state["workers"]
        assert (worker["state"], worker["completed"]) == ("ready", 2)
        (failure,) = state["failures"]
        assert (failure["error"], failure["message"], failure["count"]) == ("ValueError", "no such row", 1)
        trace = (await client.get(f"/failures/{failure['number']}.json")).json()["traceback"]
        assert "raise ValueError(message)" in trace
        assert sorted(row["name"] for row in state["names"]) == ["double", "fail"]
        details = (await client.get(f"/tasks/{failure['tasks'][0]}.json")).json()
        assert (details["name"], details["outcome"], details["error"], details["worker"]) == (
            "fail",
            "failed",
            "ValueError",
            1,
        )
        assert {mark[0] for mark in state["marks"]} == {1, 2}


async def settle_into_state(client: httpx.AsyncClient) -> None:
    """Wait for the next look at the pool."""
    before = (await client.get("/state.json")).json()["cursor"]
    async with asyncio.timeout(20):
        while (await client.get("/state.json")).json()["cursor"] == before:  # noqa: ASYNC110 - as a page would
            await asyncio.sleep(0.02)


async def test_the_state_has_a_verdict_and_the_number_of_server_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    pool = Pool(max_workers=1)
    async with pool, browser(dashboard(pool)) as client:
        state = (await client.get("/state.json")).json()
        assert state["verdict"] == {"level": "good", "text": "All is well: 1 of 1 workers are up."}
        assert state["server"]["processes"] == 3
    async with pool, browser(dashboard(pool)) as client:
        await pool.drain()
        closed = (await client.get("/state.json")).json()
    assert closed["verdict"]["level"] == "bad"
    assert closed["verdict"]["text"].startswith("Closed: ")


async def test_with_a_cursor_only_what_is_new_is_sent() -> None:
    pool = Pool(max_workers=1)
    async with pool, browser(dashboard(pool)) as client:
        await pool.run(tasks.double, 1)
        await settle_into_state(client)
        first = (await client.get("/state.json")).json()
        assert not first["continued"]
        assert len(first["history"]["points"]) >= 2
        await settle_into_state(client)
        second = (await client.get("/state.json", params={"since": first["cursor"]})).json()
        assert second["continued"]
        assert len(second["history"]["points"]) <= 2
        assert second["marks"] == []
        for cursor in ("x", "other-1", f"{first['server']['instance']}-999999", f"{first['server']['instance']}-²"):
            assert not (await client.get("/state.json", params={"since": cursor})).json()["continued"]


async def test_a_task_that_runs_has_details_too_and_arguments_only_if_asked_for(gate: Gate) -> None:
    for shown in (False, True):
        pool = Pool(max_workers=1)
        page = dashboard(pool, show_arguments=shown)
        async with pool, browser(page) as client:
            running = pool.submit(tasks.hold, gate.address, fair_key="alice")
            visitor = await gate.arrival()
            details = (await client.get(f"/tasks/{running.id}.json")).json()
            visitor.let_through()
            await running
        assert (details["name"], details["outcome"], details["worker"]) == ("hold", None, 1)
        assert (details["arguments"], details["fair_key"]) == ((repr(gate.address), "alice") if shown else (None, None))


async def test_messages_and_tracebacks_can_be_left_out() -> None:
    pool = Pool(max_workers=1)
    async with pool, browser(dashboard(pool, show_tracebacks=False)) as client:
        with pytest.raises(ValueError, match="secret"):
            await pool.run(tasks.fail, "secret")
        state = await client.get("/state.json")
        assert "secret" not in state.text
        assert state.json()["failures"][0]["error"] == "ValueError"
        assert (await client.get("/failures/1.json")).status_code == 404


async def test_why_a_worker_could_not_start_is_shown_and_a_refusal_counts_as_a_failure() -> None:
    pool = Pool(max_workers=1)
    async with pool, browser(dashboard(pool)) as client:
        with pytest.raises(TypeError):
            await pool.run(tasks.echo, lambda: 1)
        with pytest.raises(Exception, match="died"):
            await pool.run(tasks.exit_hard, 3)
        state = (await client.get("/state.json")).json()
    assert [(row["outcome"], row["error"]) for row in state["failures"]] == [
        ("lost", "WorkerLost"),
        ("refused", "TaskNotPicklable"),
    ]
    assert [(row["reason"], row["exitcode"]) for row in state["exits"]] == [("died", 3)]


async def test_first_tasks_that_are_refused_while_they_wait_are_in_the_list_as_refused() -> None:
    pool = Pool(max_workers=1)
    async with pool, browser(dashboard(pool)) as client:
        burst = [pool.submit(time.sleep, 0.3, timeout=10.0) for _ in range(60)]
        await asyncio.wait(burst, return_when=asyncio.FIRST_EXCEPTION)
        for handle in burst:
            handle.cancel()
        outcomes = await asyncio.gather(*burst, return_exceptions=True)
        state = (await client.get("/state.json")).json()
    refused = sum(isinstance(outcome, QueueFull) for outcome in outcomes)
    rows = [row for row in state["failures"] if row["error"].startswith("QueueFull")]
    assert [(row["outcome"], row["count"]) for row in rows] == [("refused", refused)]
    assert refused > 0


# --- who ------------------------------------------------------------------------------------------------------------


async def allow_nobody(scope: Any) -> Any:
    return "none"


async def test_who_may_not_see_it_sees_nothing() -> None:
    app = dashboard(Pool(max_workers=1), access=allow_nobody)
    paths = ["/", "/static/main.js", "/state.json", "/tasks/1.json"]
    assert set(await statuses(app, *[("GET", path) for path in paths])) == {403}
    assert await statuses(app, ("POST", "/actions/drain"), **{"x-lifepool-action": "drain"}) == [403]


async def test_what_the_callback_raises_the_request_raises_and_a_wrong_answer_shows_nothing() -> None:
    def ask_for_a_login(scope: Any) -> Any:
        raise HTTPException(401, headers={"www-authenticate": "Basic"})

    app = FastAPI()
    app.mount("/pool", dashboard(Pool(max_workers=1), access=ask_for_a_login))
    async with browser(app) as client:
        answer = await client.get("/pool/")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Basic")
    with pytest.raises(TypeError, match=r'must return "none", "read" or "act", not True'):
        await statuses(dashboard(Pool(max_workers=1), access=lambda scope: True), ("GET", "/"))  # type: ignore[arg-type,return-value]


async def test_data_is_not_for_pages_of_other_sites() -> None:
    app = dashboard(Pool(max_workers=1))
    assert await statuses(app, ("GET", "/state.json"), **{"sec-fetch-site": "cross-site"}) == [403]
    assert await statuses(app, ("GET", "/state.json"), **{"sec-fetch-site": "same-origin"}) == [200]


@pytest.mark.parametrize(
    ("host", "allowed", "status"),
    [
        ("test", (), 200),  # what the server is bound to, as the transport of these tests says
        ("test:8000", (), 200),
        ("localhost:8000", (), 200),
        ("LOCALHOST.", (), 200),
        ("app.localhost", (), 200),
        ("127.0.0.1:8000", (), 200),
        ("10.1.2.3", (), 200),  # no name: nobody can let it lead elsewhere
        ("[::1]:8000", (), 200),
        ("[2001:db8::1]", (), 200),
        (socket.gethostname(), (), 200),
        ("evil.example", (), 421),
        ("evil.example:8000", (), 421),
        ("localhost.evil.example", (), 421),
        ("127.0.0.1.evil.example", (), 421),
        ("evil.example#localhost", (), 421),
        ("", (), 421),
        ("pool.example.com", ("pool.example.com",), 200),
        ("Pool.Example.com:443", ("pool.example.com:8000",), 200),
        ("a.b.example.com", ("*.example.com",), 200),
        ("example.com", ("*.example.com",), 421),
        ("evilexample.com", ("*.example.com",), 421),
        ("anything.example", ("*",), 200),
    ],
)
async def test_it_answers_only_under_names_that_it_is_served_under(
    host: str, allowed: tuple[str, ...], status: int
) -> None:
    app = dashboard(Pool(max_workers=1), access=lambda scope: "act", allowed_hosts=allowed)
    meant = {"x-lifepool-action": "cancel", "sec-fetch-site": "same-origin", "origin": f"http://{host}", "host": host}
    requests = [("GET", "/"), ("GET", "/state.json"), ("GET", "/static/main.js"), ("POST", "/actions/cancel/7")]
    assert await statuses(app, *requests, **meant) == ([200, 200, 200, 409] if status == 200 else [421] * 4)


async def test_a_request_under_another_name_is_answered_with_the_setting_that_allows_it() -> None:
    def refuse(scope: Any) -> Any:
        raise AssertionError("nobody is asked who may see it")

    async with browser(dashboard(Pool(max_workers=1), access=refuse), host="evil.example") as client:
        answer = await client.get("/state.json")
    assert answer.status_code == 421
    assert "dashboard(pool, allowed_hosts=['evil.example'])" in answer.json()["detail"]


def test_one_name_is_not_taken_for_several() -> None:
    with pytest.raises(TypeError, match=r"expected several names, as in \['a.example'\]"):
        dashboard(Pool(max_workers=1), allowed_hosts="a.example")


FORGERIES: list[dict[str, str]] = [
    {},
    {"x-lifepool-action": "recycle"},
    {"x-lifepool-action": "cancel", "sec-fetch-site": "cross-site"},
    {"x-lifepool-action": "cancel", "sec-fetch-site": "same-site"},
    {"x-lifepool-action": "cancel", "sec-fetch-site": "none"},
    {"x-lifepool-action": "cancel", "origin": "https://evil.example"},
    {"x-lifepool-action": "cancel", "origin": "null"},
]


async def test_an_action_needs_access_and_proof_that_it_was_meant(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    reading, acting = dashboard(pool), dashboard(pool, access=lambda scope: "act")
    async with pool:
        running = pool.submit(tasks.hold, gate.address)
        await gate.arrival()
        cancel = ("POST", f"/actions/cancel/{running.id}")
        meant = {"x-lifepool-action": "cancel", "origin": "http://test", "sec-fetch-site": "same-origin"}
        assert await statuses(reading, cancel, **meant) == [403]
        for forged in FORGERIES:
            assert await statuses(acting, cancel, **forged) == [403], forged
        assert not running.done()
        wrong = [("POST", "/actions/cancel"), ("POST", "/actions/cancel/x"), ("POST", "/actions/destroy")]
        assert await statuses(acting, *wrong, **meant) == [404, 404, 404]
        assert await statuses(acting, cancel, cancel, **meant) == [200, 409]
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.mark.parametrize(
    "headers", [{"origin": "http://test"}, {"origin": "https://a.example", "x-forwarded-host": "a.example"}, {}]
)
async def test_clients_without_fetch_metadata_may_act_from_the_same_host(headers: dict[str, str]) -> None:
    app = dashboard(Pool(max_workers=1), access=lambda scope: "act")
    found = await statuses(app, ("POST", "/actions/cancel/7"), **{"x-lifepool-action": "cancel", **headers})
    assert found == [409]  # let in; there is no such task


async def test_draining_is_begun_once_and_the_page_shows_how_it_goes_on(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    async with pool, browser(dashboard(pool, access=lambda scope: "act"), **{"x-lifepool-action": "drain"}) as client:
        running = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        assert (await client.post("/actions/drain")).status_code == 202
        await asyncio.sleep(0)
        assert (await client.post("/actions/drain")).status_code == 409
        state = (await client.get("/state.json")).json()
        assert state["pool"]["reasons"] == ["draining"]
        visitor.let_through()
        await running
        await pool.drain()
        assert (await client.get("/state.json")).json()["pool"]["state"] == "closed"
