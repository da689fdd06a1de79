"""A connection to ``SheddingProtocol`` without a network, whose server refuses what it is told to."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from lifepool import Pool
from lifepool.integrations.shedding import LoadShedding
from lifepool.integrations.shedding.middleware import STATE_KEY
from lifepool.integrations.uvicorn import SheddingProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.integrations.asgi import Receive, Scope, Send

BODY = b"0123456789" * 3
POST = b"POST /work?a=1 HTTP/1.1\r\nHost: l\r\nContent-Length: 30\r\n\r\n" + BODY
GET = b"GET /work HTTP/1.1\r\nHost: l\r\n\r\n"
TURNS = 10
"""So many turns of the loop are enough for the app to answer: it waits for nothing."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: l\r\n\r\n"


@pytest.fixture(autouse=True)
def uvicorns_logger() -> Iterator[None]:
    """Leave the logger as it was, which ``uvicorn.Config`` sets for the whole program."""
    logger = logging.getLogger("uvicorn.access")
    before = logger.handlers, logger.propagate
    logger.handlers = []
    yield
    logger.handlers, logger.propagate = before


class Transport(asyncio.Transport):
    """Remembers what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Connection:
    """A connection of a server that refuses all, or what it is told to; the app answers with what it was asked.

    Args:
        shedding: Whether the app has load shedding.
        admits: How many requests are admitted, from the first.
        says: A header of each answer.
        options: For uvicorn.
    """

    def __init__(self, *, shedding: bool = True, admits: int = 0, says: bytes = b"server", **options: Any) -> None:
        self.decided = 0
        self.calls = 0  # of the middleware
        self.reached: list[str] = []  # the requests that got to the app
        self.shedding = LoadShedding(self._app, pool=Pool(backend="inline"), exempt=["/static/"])
        self.shedding.is_refusing = True
        self.admits = admits
        self.shedding.refuse = self._refuse  # type: ignore[method-assign]
        options.setdefault("access_log", False)
        config = uvicorn.Config(self._count, interface="asgi3", log_config=None, **options)
        self.state = ServerState()
        self.state.default_headers = [(says, b"close" if says == b"Connection" else b"uvicorn")]
        lifespan: dict[str, Any] = {STATE_KEY: self.shedding} if shedding else {}
        self.protocol = SheddingProtocol(config, self.state, lifespan)
        self.transport = Transport()
        self.protocol.connection_made(self.transport)

    def _refuse(self, now: float) -> int | None:
        self.decided += 1
        return None if self.decided <= self.admits else 7

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        await self.shedding(scope, receive, send)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, more = 0, scope["path"] != "/unread"
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        self.reached.append(f"{scope['method']} {scope['path']} {size}")
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def say(self, *pieces: bytes) -> list[int]:
        """Send pieces one after another. Return the statuses of all answers so far."""
        for piece in pieces or (b"",):
            if piece and not self.transport.is_closed:
                self.protocol.data_received(piece)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        return [int(part[:3]) for part in bytes(self.transport.sent).split(b"HTTP/1.1 ")[1:]]

    def end(self) -> None:
        """End it as a client does that goes away."""
        self.protocol.connection_lost(None)
