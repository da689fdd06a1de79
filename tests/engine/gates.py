"""The test's side of a gate: sees tasks arrive, holds them, lets them through."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PATIENCE_S = 20.0
"""Seconds to wait for what must happen; only a failing test waits so long."""


@dataclass
class Visitor:
    """A task that has announced itself."""

    pid: int
    _connection: socket.socket

    def let_through(self) -> None:
        self._connection.sendall(b"!")

    async def gone(self) -> None:
        """Wait until it has closed its end, or died."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S):
            try:
                assert not await loop.sock_recv(self._connection, 1)
            except ConnectionResetError:  # it died with unread data
                return


class Gate:
    """A listening Unix socket that tasks of `tests.tasks` connect to; use it with `with`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gate-")
        self.address = os.path.join(self._folder.name, "g")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._visitors: list[Visitor] = []

    async def arrival(self) -> Visitor:
        """The next task that announces itself."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S):
            connection, _ = await loop.sock_accept(self._listener)
            connection.setblocking(False)
            line = b""
            try:
                while not line.endswith(b"\n"):
                    piece = await loop.sock_recv(connection, 64)
                    assert piece, "a task died in the middle of announcing itself"
                    line += piece
            except BaseException:
                connection.close()
                raise
        visitor = Visitor(int(line), connection)
        self._visitors.append(visitor)
        return visitor

    def let_everybody_through(self) -> None:
        """Those who stand there now, whoever they are; they are not seen."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            self._visitors.append(Visitor(0, connection))
            with contextlib.suppress(OSError):  # it is dead
                connection.sendall(b"!")

    def forget(self) -> None:
        """Close the connections of those who were here."""
        for visitor in self._visitors:
            visitor._connection.close()
        self._visitors.clear()

    def nobody_came(self) -> bool:
        """Whether no task is waiting to be seen."""
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return True
        connection.close()
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.forget()
        self._listener.close()
        self._folder.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    """Look at a condition each millisecond until it holds; for what offers nothing to wait on."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - there is no event: that is what this is for
                await asyncio.sleep(0.001)
    except TimeoutError:
        if not condition():  # it may hold, and nobody has looked: the whole machine stood still meanwhile
            raise
