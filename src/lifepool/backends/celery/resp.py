"""One connection to Redis, as lean as a call on its way needs it: commands leave at once, answers come in their order.

The package ``redis`` is made for all that Redis can do. Of its asyncio client, a command costs several turns of the
loop and as much Python as all else that a client does for a call, and an answer of 1 MiB is put together from pieces.
Here the system writes what is large where it stays.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Command = tuple[Any, ...]

#: Bytes that are read at a time, of answers that are small.
READ_BYTES = 64 * 1024
#: Bytes of an argument above which it is not joined with others before it is written.
LARGE = 32 * 1024
PORT = 6379


class RedisError(Exception):
    """Redis has said no, or something that is no answer."""


class Replies:
    """Put answers together from what is read, in version 2 of the protocol of Redis.

    Strings of bytes are ``bytes``; what the server refuses is a ``RedisError`` in the place of the answer.

    Args:
        on_reply: Called with each answer when it is complete.
    """

    def __init__(self, on_reply: Callable[[Any], object]) -> None:
        self._on_reply = on_reply
        self._view = memoryview(bytearray(READ_BYTES))
        self._start = self._end = 0  # what was read and not looked at
        self._bulk: memoryview | None = None  # a string that is being read, with the two bytes of its end
        self._filled = 0
        self._open: list[tuple[list[Any], int]] = []  # arrays that are being read, with their lengths

    def space(self) -> memoryview:
        """Return where to read to."""
        if self._bulk is not None:
            return self._bulk[self._filled :]
        if self._start:
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return self._view[self._end :]

    def was_read(self, count: int) -> None:
        """Take note of so many bytes.

        Raises:
            RedisError: If they are no answer.
        """
        if self._bulk is None:
            self._end += count
            self._look()
            return
        self._filled += count
        if self._filled == len(self._bulk):
            bulk, self._bulk = self._bulk, None
            self._value(bytes(bulk[:-2]))

    def _look(self) -> None:
        while self._bulk is None and (line := self._line()) is not None:
            kind, rest = line[:1], line[1:]
            try:
                self._take(kind, rest)
            except ValueError:
                raise RedisError(f"the server has said {line[:100]!r}, which is no answer of Redis") from None

    def _line(self) -> bytes | None:
        """Return the next line without its end; None if it is not complete."""
        buffer: Any = self._view.obj
        at = buffer.find(b"\r\n", self._start, self._end)
        if at < 0:
            if self._start == 0 and self._end == len(self._view):
                raise RedisError("the server has sent a line without end")
            return None
        line = bytes(self._view[self._start : at])
        self._start = at + 2
        return line

    def _take(self, kind: bytes, rest: bytes) -> None:
        if kind == b"$":
            self._take_string(int(rest))
        elif kind == b"*":
            length = int(rest)
            if length > 0:
                self._open.append(([], length))
            else:
                self._value(None if length < 0 else [])
        elif kind == b":":
            self._value(int(rest))
        elif kind == b"+":
            self._value(rest)
        elif kind == b"-":
            self._value(RedisError(rest.decode(errors="replace")))
        else:
            raise ValueError

    def _take_string(self, length: int) -> None:
        if length < 0:
            self._value(None)
            return
        end = self._start + length
        if end + 2 <= self._end:
            value = bytes(self._view[self._start : end])
            self._start = end + 2
            self._value(value)
            return
        self._bulk = memoryview(bytearray(length + 2))
        self._filled = self._end - self._start
        self._bulk[: self._filled] = self._view[self._start : self._end]
        self._start = self._end = 0

    def _value(self, value: Any) -> None:
        while self._open:
            items, length = self._open[-1]
            items.append(value)
            if len(items) < length:
                return
            self._open.pop()
            value = items
        self._on_reply(value)


class RedisConnection(asyncio.BufferedProtocol):
    """A connection.

    Args:
        on_push: Called with what comes without being asked for, once this connection has subscribed to something.
    """

    def __init__(self, on_push: Callable[[Any], object] | None = None) -> None:
        self._on_push = on_push
        self._replies = Replies(self._replied)
        self._asked: deque[tuple[asyncio.Future[list[Any]], int]] = deque()
        self._answers: list[Any] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()  # fails with the reason

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands in one go; return their answers.

        Raises:
            RedisError: If the server refuses one of them.
            OSError: If the connection breaks; then they may have been executed or not.
        """
        answers = await self._send(commands)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers

    def _send(self, commands: Iterable[Command]) -> asyncio.Future[list[Any]]:
        if self.lost.done() or self._transport is None:
            raise ConnectionResetError("the connection is closed")
        answers: asyncio.Future[list[Any]] = self._loop.create_future()
        parts: list[bytes] = []
        count = 0
        for command in commands:
            count += 1
            parts.append(b"*%d\r\n" % len(command))
            for argument in command:
                encoded = argument if isinstance(argument, bytes) else str(argument).encode()
                if len(encoded) < LARGE:
                    parts.append(b"$%d\r\n%b\r\n" % (len(encoded), encoded))
                    continue
                parts.append(b"$%d\r\n" % len(encoded))
                self._transport.write(b"".join(parts))
                self._transport.write(encoded)
                parts = [b"\r\n"]
        self._asked.append((answers, count))
        self._transport.write(b"".join(parts))
        return answers

    def close(self) -> None:
        """Close it; who waits for answers is told so."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(ConnectionResetError("the connection is closed"))

    async def __aenter__(self) -> RedisConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # -- Protocol -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Note where to write."""
        self._transport = transport

    def get_buffer(self, sizehint: int) -> Any:
        """Return where to read to."""
        return self._replies.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Look at what was read."""
        try:
            self._replies.was_read(nbytes)
        except RedisError as error:
            self._fail(error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self._fail(exc or ConnectionResetError("the server has closed the connection"))

    def _replied(self, value: Any) -> None:
        if not self._asked:
            if self._on_push is not None:
                self._on_push(value)
            return
        self._answers.append(value)
        answers, count = self._asked[0]
        if len(self._answers) == count:
            self._asked.popleft()
            values, self._answers = self._answers, []
            if not answers.done():
                answers.set_result(values)

    def _fail(self, error: Exception) -> None:
        asked, self._asked = self._asked, deque()
        for answers, _ in asked:
            if not answers.done():
                answers.set_exception(error)
        if not self.lost.done():
            self.lost.set_exception(error)
            self.lost.exception()  # nobody may be looking


async def connect(address: str, within_s: float, on_push: Callable[[Any], object] | None = None) -> RedisConnection:
    """Connect to ``redis://user:password@host:port/database``, or the same with ``rediss`` and TLS.

    Raises:
        OSError: If there is no connection.
        TimeoutError: If there is none within so many seconds.
        RedisError: If the server does not let us in.
    """
    parts = urlsplit(address)
    tls = ssl.create_default_context() if parts.scheme == "rediss" else None
    loop = asyncio.get_running_loop()
    connection = RedisConnection(on_push)
    try:
        async with asyncio.timeout(within_s):
            host = parts.hostname or "localhost"
            await loop.create_connection(lambda: connection, host, parts.port or PORT, ssl=tls)
            commands: list[Command] = []
            if parts.password is not None:
                user = (unquote(parts.username),) if parts.username else ()
                commands.append(("AUTH", *user, unquote(parts.password)))
            if database := parts.path.strip("/"):
                commands.append(("SELECT", unquote(database)))
            await connection.ask(*commands, ("PING",))
    except BaseException:
        connection.close()
        raise
    return connection
