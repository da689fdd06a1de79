"""The lean connection to Redis: answers are put together from any pieces, and who waits is told when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from lifepool.backends.celery.resp import READ_BYTES, RedisError, Replies, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LARGE = bytes(range(256)) * 800
ANSWERS = b"".join(
    [
        b"+OK\r\n:12\r\n:-1\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n*1\r\n$5\r\na\r\nbc\r\n$0\r\n\r\n",
        b"$%d\r\n%b\r\n" % (len(LARGE), LARGE),
        b"*3\r\n$%d\r\n%b\r\n:1\r\n$2\r\nab\r\n" % (READ_BYTES, LARGE[:READ_BYTES]),
    ]
)
EXPECTED = [b"OK", 12, -1, None, None, [], [[b"a\r\nbc"], b""], LARGE, [LARGE[:READ_BYTES], 1, b"ab"]]


def read(data: bytes, step: int) -> list[Any]:
    got: list[Any] = []
    replies = Replies(got.append)
    while data:
        space = replies.space()
        count = min(step, len(space), len(data))
        assert count
        space[:count], data = data[:count], data[count:]
        replies.was_read(count)
    return got


@pytest.mark.parametrize("step", [1, 2, 7, 1000, READ_BYTES - 1, READ_BYTES, 1 << 20])
def test_answers_are_put_together_from_any_pieces(step: int) -> None:
    assert read(ANSWERS, step) == EXPECTED


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n", b"$x\r\n", b"\r\n", b"+" + bytes(READ_BYTES)])
def test_what_is_no_answer_is_an_error(nonsense: bytes) -> None:
    with pytest.raises(RedisError):
        read(nonsense, 1 << 20)


@contextlib.asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer what is read with these, in turn; close the connection after the last. Yield the address and what came."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            came.append(await reader.read(1 << 20))
            writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", came


async def test_it_says_who_it_is_and_selects_its_database() -> None:
    async with server(b"+OK\r\n+OK\r\n+PONG\r\n", b"+OK\r\n") as (address, came):
        connection = await connect(f"redis://me:p%40ss@{address}/3", 5)
        assert await connection.ask(("SET", "key", b"value", "EX", 2)) == [b"OK"]
        connection.close()
    assert came[0] == (
        b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$4\r\np@ss\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$4\r\nPING\r\n"
    )
    assert came[1] == b"*5\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n$2\r\nEX\r\n$1\r\n2\r\n"


async def test_who_is_not_let_in_is_told_why() -> None:
    async with server(b"-NOAUTH Authentication required.\r\n") as (address, _):
        with pytest.raises(RedisError, match="NOAUTH"):
            await connect(f"redis://{address}", 5)


async def test_who_waits_is_told_when_the_connection_breaks() -> None:
    async with server(b"+PONG\r\n", b"+half of it") as (address, _):
        connection = await connect(f"redis://{address}", 5)
        with pytest.raises(OSError, match=r"closed|reset"):
            await connection.ask(("GET", "key"))
        with pytest.raises(OSError, match=r"closed|reset"):
            await connection.ask(("GET", "key"))
        assert connection.lost.done()


async def test_what_nobody_asked_for_is_passed_on() -> None:
    said: asyncio.Queue[Any] = asyncio.Queue()
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n"
    async with server(b"+PONG\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" + message) as (address, _):
        connection = await connect(f"redis://{address}", 5, said.put_nowait)
        assert await connection.ask(("SUBSCRIBE", "c")) == [[b"subscribe", b"c", 1]]
        assert await asyncio.wait_for(said.get(), 5) == [b"message", b"c", b"hello"]
        connection.close()


async def test_a_server_that_hangs_up_is_an_error() -> None:
    async with server() as (address, _):
        with pytest.raises(OSError, match=r"closed|reset"):
            await connect(f"redis://{address}", 5)
