"""A small HTTP/1.1 client over keep-alive connections, made for measuring.

A request costs it some tens of microseconds, so that on a few shared cores the client does not
become what is measured. It knows no more of HTTP than the servers under test use: every answer has
a ``Content-Length``.
"""

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

END_OF_HEADERS = b"\r\n\r\n"


@dataclass(frozen=True)
class Response:
    """An answer: its status code and its body."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One connection that carries one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[Response] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        self._received += data
        response = parse(self._received)
        if response is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    @property
    def is_open(self) -> bool:
        """Tell whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes) -> Response:
        """Send a request and wait for its answer."""
        assert self._transport is not None
        self._received.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close at once, whatever is still on its way."""
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Connections to one server, as many as there are requests in flight."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: deque[Connection] = deque()

    async def send(self, request: bytes, timeout: float) -> Response:
        """Send a request on an idle connection or a new one.

        Raises:
            TimeoutError: no answer within ``timeout`` seconds, the connection's making included.
            OSError: the connection could not be made, or ended before the answer.
        """
        async with asyncio.timeout(timeout):
            connection = await self._connection()
            try:
                response = await connection.send(request)
            except BaseException:
                connection.close()  # its answer may still come: never give it to another request
                raise
        self._idle.append(connection)
        return response

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        _, made = await asyncio.get_running_loop().create_connection(Connection, *self._address)
        return made

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


def parse(received: bytes | bytearray) -> Response | None:
    """Return the answer once it is there as a whole, ``None`` before."""
    end = received.find(END_OF_HEADERS)
    if end < 0:
        return None
    status_line, *fields = bytes(received[:end]).split(b"\r\n")
    headers = dict(field.lower().split(b":", 1) for field in fields)
    start, length = end + len(END_OF_HEADERS), int(headers[b"content-length"])
    if len(received) < start + length:
        return None
    return Response(int(status_line.split()[1]), bytes(received[start : start + length]))


def get(path: str) -> bytes:
    """Return the bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post_json(path: str, content: Any) -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    body = json.dumps(content).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
