"""uvicorn's protocol with load shedding: what it answers itself, what it leaves to the app, and in which order."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from typing import Any

import pytest

from lifepool.integrations.shedding.refusals import DISCARD_MOST, DISCARD_S, DISCARDING_MOST
from lifepool.integrations.uvicorn import SheddingProtocol, _Request
from tests.integrations.early import BODY, GET, HEALTH, POST, Connection, uvicorns_logger

__all__ = ["uvicorns_logger"]


async def test_a_refusal_is_the_same_as_the_middlewares_and_the_app_hears_nothing() -> None:
    early, late = Connection(), Connection(shedding=False)
    assert await early.say(POST) == await late.say(POST) == [503]
    assert early.transport.sent == late.transport.sent
    assert b"retry-after: 7\r\n" in early.transport.sent
    assert b"server: uvicorn\r\n" in early.transport.sent
    assert json.loads(bytes(early.transport.sent).partition(b"\r\n\r\n")[2])["retry_after"] == 7
    assert early.state.tasks == set()
    assert early.state.total_requests == late.state.total_requests == 1
    assert early.shedding._requests.under_way == 0
    early.end()
    late.end()


@pytest.mark.parametrize("admits", [0, 1, 2, 3])
async def test_wherever_a_stream_is_cut_each_request_has_one_answer_in_its_order(admits: int) -> None:
    """The next request comes when the one before is answered; its bytes come in two pieces, cut anywhere."""
    for cut in range(1, len(POST)):
        connection = Connection(admits=admits)
        for number in range(3):
            statuses = await connection.say(POST[:cut], POST[cut:])
            expected = [200] * min(admits, number + 1) + [503] * (number + 1 - min(admits, number + 1))
            assert statuses == expected, (cut, number)
        assert await connection.say(HEALTH[:cut], HEALTH[cut:]) == [*expected, 200]
        assert connection.decided == 3, "nobody decides twice"
        has_head = cut >= len(POST) - len(BODY)  # else it is uvicorn's
        assert connection.calls == (admits if has_head else 3) + 1
        assert connection.reached == ["POST /work 30"] * admits + ["GET /health 0"]
        assert not connection.transport.is_closed
        connection.end()


@pytest.mark.parametrize("size", [1, 7, 40, 100])
@pytest.mark.parametrize("admits", [0, 2, 5])
async def test_requests_that_are_sent_without_waiting_are_answered_in_their_order(size: int, admits: int) -> None:
    """A connection may end instead, if more came behind a body that was thrown away; then nothing follows."""
    stream = (POST + GET + POST + HEALTH) * 2
    connection = Connection(admits=admits)
    await connection.say(*(stream[at : at + size] for at in range(0, len(stream), size)))
    statuses = await connection.say(*[b""] * 8)
    admitted = [each for each in connection.reached if "work" in each]
    assert len(admitted) == admits
    healths = connection.reached.count("GET /health 0")
    assert statuses.count(200) == admits + healths
    assert connection.transport.is_closed or (len(statuses), healths) == (8, 2)
    assert statuses.count(503) == connection.decided - admits
    connection.end()


@pytest.mark.parametrize("pieces", [1, 3])
async def test_nothing_is_refused_before_the_request_in_front_of_it_is_answered(pieces: int) -> None:
    connection = Connection(admits=1)
    stream = POST + GET + GET
    for at in range(pieces):  # the app has no turn between them
        connection.protocol.data_received((POST, GET, GET)[at] if pieces == 3 else stream)
    assert not connection.transport.sent
    assert await connection.say(*[b""] * 3) == [200, 503, 503]
    connection.end()


async def test_what_looks_like_a_request_inside_of_another_is_none() -> None:
    """In a header, in a body that nobody reads, and in one that is thrown away."""
    hidden = Connection()
    assert await hidden.say(b"GET /health HTTP/1.1\r\nX-A: ", GET) == [200]
    unread = Connection(admits=1)
    post = b"POST /unread HTTP/1.1\r\nHost: l\r\nContent-Length: %d\r\n\r\n" % (2 * len(GET))
    assert await unread.say(post, GET, GET, HEALTH) == [200, 200]
    refused = Connection()
    assert await refused.say(post, GET, GET, HEALTH) == [503, 200]
    for connection in (hidden, unread, refused):
        assert connection.decided <= 1
        connection.end()


@pytest.mark.parametrize("piece", [b"GET /work HT", b"\r\n", POST + GET[:9], b"OPTIONS * HTTP/1.1\r\nHost: l\r\n\r\n"])
async def test_after_a_request_that_is_not_plain_the_next_is_refused_as_it_is_read(piece: bytes) -> None:
    first, second = Connection(), Connection()
    second.protocol._early = first.protocol._early
    await first.say(piece)
    assert await second.say(GET) == [503]
    assert second.calls == 0
    first.end()
    second.end()


@pytest.mark.parametrize(
    "request_line",
    [
        b"HEAD /work HTTP/1.1",
        b"GET /work HTTP/1.0",
        b"GET /%77ork HTTP/1.1",
        b"GET /health#x HTTP/1.1",
        b"GET /api/livez HTTP/1.1",
        b"GET http://l/work HTTP/1.1",
    ],
)
async def test_what_is_not_plain_is_left_to_the_middleware(request_line: bytes) -> None:
    connection = Connection()
    connection.protocol.data_received(request_line + b"\r\nHost: l\r\n\r\n")
    assert not connection.transport.sent
    assert len(connection.state.tasks) == 1
    assert await connection.say() == [200 if b"#" in request_line else 503]
    connection.end()


async def test_probes_below_a_root_path_that_only_the_app_knows_are_served() -> None:
    connection = Connection(root_path="/api")
    assert await connection.say(HEALTH, b"GET /static/a.css HTTP/1.1\r\nHost: l\r\n\r\n", GET) == [200, 200, 503]
    assert connection.decided == 1
    connection.end()


async def test_what_comes_after_a_percent_sign_in_a_query_does_not_matter() -> None:
    connection = Connection()
    assert await connection.say(b"GET /work?q=%20 HTTP/1.1\r\nHost: l\r\n\r\n") == [503]
    assert connection.calls == 0
    connection.end()


async def test_so_many_bodies_are_thrown_away_at_a_time_and_each_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lifepool.integrations.uvicorn.DISCARD_S", 60.0)
    connections = [Connection() for _ in range(DISCARDING_MOST + 2)]
    early = connections[0].protocol._early
    assert early is not None
    for connection in connections:
        connection.protocol._early = early
        connection.protocol.data_received(POST[:-5])
    assert [connection.protocol._discarded is None for connection in connections[-3:]] == [False, True, True]
    assert early.discarding == DISCARDING_MOST
    assert await connections[0].say(POST[-5:]) == [503]
    assert await connections[1].say(POST[-5:] + GET) == [503]
    connections[2].end()
    connections[3].protocol.shutdown()
    assert early.discarding == DISCARDING_MOST - 4
    for connection in connections:
        connection.end()
    assert early.discarding == 0
    await asyncio.gather(*(task for connection in connections for task in connection.state.tasks))


async def test_the_connections_of_a_server_share_what_they_need() -> None:
    first = Connection()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            protocol = SheddingProtocol(first.protocol.config, first.state, first.protocol.app_state)
            assert protocol._early is first.protocol._early
        assert sum(isinstance(each, _Request) for each in gc.get_objects()) == 1
    finally:
        gc.enable()
    first.end()


@pytest.mark.parametrize("pieces", [(POST,), (POST[:-5], POST[-5:]), (POST[:20], POST[20:]), (b"HEAD" + GET[3:],)])
@pytest.mark.parametrize("admits", [0, 100])
async def test_nothing_is_left_that_only_the_garbage_collector_finds(pieces: tuple[bytes, ...], admits: int) -> None:
    connection = Connection(admits=admits)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await connection.say(*pieces)
        left = sum(isinstance(each, _Request) for each in gc.get_objects())
    finally:
        gc.enable()
    assert left == 1
    connection.end()


@pytest.mark.parametrize(
    "head",
    [
        b"Expect: 100-continue\r\nContent-Length: 30\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: %d\r\n" % (DISCARD_MOST + 1),
        b"Content-Length: 10\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    ],
)
async def test_a_body_that_may_not_come_is_left_to_the_middleware(head: bytes) -> None:
    connection = Connection(ws="none")
    connection.protocol.data_received(b"POST /work HTTP/1.1\r\nHost: l\r\n" + head + b"\r\n")
    assert not connection.transport.sent
    assert len(connection.state.tasks) == 1
    connection.protocol.connection_lost(ConnectionResetError())
    await asyncio.gather(*connection.state.tasks)


@pytest.mark.parametrize(
    "options", [{"access_log": True}, {"limit_concurrency": 100}, {"says": b"Connection"}, {"shedding": False}]
)
async def test_it_is_uvicorns_own_protocol_if_there_is_more_to_do(options: dict[str, Any]) -> None:
    """A log of all requests, a limit that uvicorn keeps, a connection that it ends; or nothing at all to ask."""
    logging.getLogger("uvicorn.access").addHandler(logging.NullHandler())
    connection = Connection(**options)
    connection.protocol.data_received(POST)
    assert not connection.transport.sent
    assert len(connection.state.tasks) == 1
    assert await connection.say() == [503]
    connection.end()


async def test_nothing_is_read_twice_while_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(admits=1)
    connection.shedding.is_refusing = False
    monkeypatch.delattr("lifepool.integrations.uvicorn._EarlyRefusals.read")
    assert await connection.say(POST) == [200]
    assert connection.decided == 1
    connection.end()


async def test_malformed_requests_get_uvicorns_answer() -> None:
    connection = Connection()
    assert await connection.say(b"GET /work HTTP/9.9\r\n\r\n") == [400]
    assert connection.transport.is_closed
    connection.end()


async def test_a_body_that_stops_is_answered_after_a_moment_and_the_connection_ends() -> None:
    connection = Connection()
    begins = connection.protocol.loop.time()
    assert await connection.say(POST[:-5], POST[-5:-4]) == []
    timer = connection.protocol.timeout_keep_alive_task
    assert timer is not None
    assert timer.when() - begins <= DISCARD_S + (connection.protocol.loop.time() - begins)
    timer._run()  # its time has come
    timer.cancel()
    assert await connection.say() == [503]
    assert b"connection: close\r\n" in connection.transport.sent
    assert connection.transport.is_closed
    connection.end()


async def test_a_request_behind_a_body_that_is_thrown_away_ends_the_connection_after_the_answer() -> None:
    connection = Connection()
    assert await connection.say(POST[:-5], POST[-5:] + POST) == [503]
    assert b"connection: close\r\n" in connection.transport.sent
    assert connection.transport.is_closed
    connection.end()


async def test_who_still_sends_is_answered_as_the_server_ends() -> None:
    connection = Connection()
    assert await connection.say(POST[:-5]) == []
    connection.protocol.shutdown()
    assert await connection.say() == [503]
    assert connection.transport.is_closed
    connection.end()


async def test_a_client_that_goes_away_meanwhile_is_sent_nothing() -> None:
    connection = Connection()
    await connection.say(POST[:-5])
    timer = connection.protocol.timeout_keep_alive_task
    assert timer is not None
    connection.transport.close()
    connection.protocol.connection_lost(ConnectionResetError())
    timer._run()
    timer.cancel()
    assert not connection.transport.sent


async def test_an_idle_connection_ends_so_long_after_its_last_refusal() -> None:
    connection = Connection()
    protocol = connection.protocol
    await connection.say(POST)
    first = protocol.timeout_keep_alive_task
    await connection.say(POST)
    assert first is not None
    assert protocol.timeout_keep_alive_task is first, "a refusal makes no timer of its own"
    first._run()
    first.cancel()
    second = protocol.timeout_keep_alive_task
    assert second is not first
    assert not connection.transport.is_closing()
    assert second is not None
    protocol._refused_at -= protocol.timeout_keep_alive
    second._run()
    second.cancel()
    assert connection.transport.is_closed
    connection.end()


async def test_a_connection_lasts_while_a_body_is_thrown_away_and_ends_when_it_is_idle_then() -> None:
    connection = Connection()
    protocol = connection.protocol
    await connection.say(POST)
    idle = protocol.timeout_keep_alive_task
    await connection.say(POST[:-5])
    assert idle is not None
    assert idle.cancelled()
    assert await connection.say(POST[-5:]) == [503, 503]
    protocol._refused_at -= protocol.timeout_keep_alive
    last = protocol.timeout_keep_alive_task
    assert last is not None
    assert not last.cancelled()
    last._run()
    last.cancel()
    assert connection.transport.is_closed
    connection.end()


async def test_a_client_that_reads_no_answers_gets_no_more() -> None:
    connection = Connection()
    connection.protocol.pause_writing()
    connection.protocol.data_received(POST)
    assert not connection.transport.sent
    assert len(connection.state.tasks) == 1, "waits there until it may be sent"
    connection.protocol.resume_writing()
    assert await connection.say() == [503]
    connection.end()


async def test_the_servers_headers_are_those_of_this_second() -> None:
    connection = Connection()
    await connection.say(POST)
    connection.state.default_headers = [(b"date", b"now")]
    await connection.say(POST)
    first, second = bytes(connection.transport.sent).split(b"HTTP/1.1 ")[1:]
    assert (b"server: uvicorn" in first, b"date: now" in first) == (True, False)
    assert (b"server: uvicorn" in second, b"date: now" in second) == (False, True)
    connection.end()


async def test_admitted_requests_count_before_the_app_has_them() -> None:
    """Many are read in one turn of the loop: each is to know of those before it."""
    connections = [Connection(admits=1) for _ in range(3)]
    shedding = connections[0].shedding
    for each in connections:
        each.protocol._early = connections[0].protocol._early
        shedding.refuse = lambda now: None  # type: ignore[method-assign]
        each.protocol.data_received(POST)
    assert shedding._requests._coming.count == 3
    for each in connections:
        await each.say()
        each.end()
