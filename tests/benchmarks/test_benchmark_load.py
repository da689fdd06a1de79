"""The load generator: open loop, honest latencies, every failure counted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from benchmarks.cases.service import with_lost
from benchmarks.client import END_OF_HEADERS, Client, Response, get, parse, post_json
from benchmarks.load import Record, Stream
from benchmarks.texts import make_texts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE = 10.0  # seconds; a bound, never waited for when all is well

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_server(answer: Answer) -> AsyncIterator[Client]:
    """Serve GET requests on loopback, each answered by ``answer``, and yield a client."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(END_OF_HEADERS):
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    client = Client(*server.sockets[0].getsockname()[:2])
    try:
        yield client
    finally:
        client.close()
        server.close()
        await asyncio.wait_for(server.wait_closed(), PATIENCE)


def a_stream(count: int, rate: float, timeout: float = PATIENCE) -> Stream:
    def is_right(_: int, response: Response) -> bool:
        return response == Response(200, b"ok")

    return Stream([get("/")], is_right, rate, count / rate, timeout)


def play(answer: Answer, stream: Stream) -> Record:
    async def scenario() -> Record:
        async with a_server(answer) as client:
            return await asyncio.wait_for(stream.play(client), 2 * PATIENCE)

    return asyncio.run(scenario())


def test_requests_leave_while_no_answer_came_back_and_waiting_counts() -> None:
    count, rate = 10, 500.0
    waiting: list[asyncio.StreamWriter] = []

    async def answer_all_at_once(writer: asyncio.StreamWriter) -> None:
        waiting.append(writer)
        if len(waiting) == count:
            for each in waiting:
                each.write(OK)

    record = play(answer_all_at_once, a_stream(count, rate))
    assert record.errors == {}
    assert len(record.latencies) == record.sent == count
    assert max(record.latencies) >= (count - 1) / rate  # the first one waited for the last one


def test_an_idle_connection_is_used_again() -> None:
    connections = set()

    async def answer(writer: asyncio.StreamWriter) -> None:
        connections.add(writer.get_extra_info("peername"))
        writer.write(OK)

    async def scenario() -> None:
        async with a_server(answer) as client:
            for _ in range(3):
                await client.send(get("/"), PATIENCE)

    asyncio.run(scenario())
    assert len(connections) == 1


def test_a_wrong_answer_is_an_error() -> None:
    async def refuse(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    record = play(refuse, a_stream(3, 500.0))
    assert record.errors == {"wrong answer, status 503": 3}
    assert record.latencies == []


def test_a_closed_connection_is_an_error() -> None:
    async def hang_up(writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert play(hang_up, a_stream(2, 500.0)).errors == {"ConnectionError": 2}


def test_a_request_without_an_answer_is_lost_after_its_timeout() -> None:
    async def stay_silent(_: asyncio.StreamWriter) -> None:
        return

    record = play(stay_silent, a_stream(2, 500.0, timeout=0.05))
    assert record.errors == {"TimeoutError": 2}
    assert with_lost(record, 0.05) == [0.05, 0.05]


def test_an_answer_is_parsed_only_when_it_is_whole() -> None:
    for end in range(len(OK)):
        assert parse(OK[:end]) is None
    assert parse(OK) == Response(200, b"ok")


def test_a_posted_body_has_its_length_in_bytes() -> None:
    request = post_json("/addContent", {"data": "ü"})
    head, _, body = request.partition(END_OF_HEADERS)
    assert f"Content-Length: {len(body)}".encode() in head


def test_texts_are_distinct_of_the_size_asked_for_and_the_same_every_time() -> None:
    texts = make_texts(4, 20_000)
    assert len(set(texts)) == 4
    assert {len(text) for text in texts} == {20_000}
    assert texts == make_texts(4, 20_000)
