"""One connection of the package ``redis``, used without its client: commands in one go, answers in their order.

A pipeline of the client costs half as much again (decision 52), and all that it adds is done here by the link: it
connects anew, and knows what was written.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

Command = tuple[Any, ...]


class RedisConnection:
    """A connection for one task at a time."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands in one go; return their answers, strings of bytes as ``bytes``.

        Raises:
            ResponseError: If the server refuses one of them; the others were executed.
            RedisError, OSError: If the connection breaks; then they may have been executed or not.
        """
        connection = self._connection
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        answers: list[Any] = []
        refusal: ResponseError | None = None
        for _ in commands:
            try:
                answers.append(await self.hear())
            except ResponseError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return answers

    async def hear(self) -> Any:
        """Wait for what the server says next, as it does without being asked once there is a subscription."""
        return await self._connection.read_response(disable_decoding=True)

    async def __aenter__(self) -> RedisConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.disconnect(nowait=True)


async def connect(address: str, within_s: float) -> RedisConnection:
    """Connect to a URL of the package ``redis``.

    Raises:
        RedisError, OSError: If there is no connection, or the server does not let us in.
        TimeoutError: If there is none within so many seconds.
    """
    settings: dict[str, Any] = {"socket_timeout": None, "retry": Retry(NoBackoff(), 0), "protocol": 2}
    connection = ConnectionPool.from_url(address, socket_connect_timeout=within_s, **settings).make_connection()
    async with asyncio.timeout(within_s):
        await connection.connect()
    return RedisConnection(connection)
