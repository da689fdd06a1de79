"""Receive the log records of workers in the server."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any

from lifepool.backends.guard import logged
from lifepool.backends.local import fork_safety as forked
from lifepool.backends.local.logs.records import LogSettings, decode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

logger: logging.Logger = logging.getLogger("lifepool")

#: Records read in one turn of the loop: a flood takes turns with all else, and what does not fit in is dropped.
_A_TURN = 50
#: Records read at the very end: as many as the socket can hold.
_AT_THE_END = 5000
_BUFFER_BYTES = 1 << 20


class LogReceiver:
    """One socket for all workers of a pool.

    Args:
        loop: Where it is read.
        on_record: Called with each record.
        per_second: Records that a worker may send in a second.
        level: Below it workers send nothing; None: the root logger's.

    Raises:
        OSError: If there are no descriptors left, for example.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_record: Callable[[dict[str, Any]], None],
        per_second: float,
        level: int | None,
    ) -> None:
        self._loop = loop
        self._on_record = on_record
        self._per_second = per_second
        self._level = level
        self._complained = False
        with contextlib.ExitStack() as made:
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._reading, self._writing = map(made.enter_context, pair)
            self._reading.setblocking(False)
            self._writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            loop.add_reader(self._reading, logged(self._read, "read what workers log"), _A_TURN)
            made.pop_all()
        forked.register(self)

    @property
    def writing_fd(self) -> int:
        """Return the descriptor that workers write to."""
        return self._writing.fileno()

    def settings(self) -> LogSettings:
        """Return how a worker that is started now is to log: as the server does now."""
        root = logging.getLogger()
        found = [
            (name, item.level)
            for name, item in list(root.manager.loggerDict.items())
            if isinstance(item, logging.Logger) and item.level != logging.NOTSET
        ]
        level = root.level if self._level is None else self._level
        return LogSettings(per_second=self._per_second, level=level, levels=tuple(found))

    def close(self) -> None:
        """Read what is left, and end."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._reading)
        logged(self._read, "read what workers logged last")(_AT_THE_END)
        self.let_go_in_child()

    def let_go_in_child(self) -> None:
        """Close the sockets without a word to the event loop, which a forked child shares with its parent."""
        self._reading.close()
        self._writing.close()

    def _read(self, most: int) -> None:
        for _ in range(most):
            try:
                data = self._reading.recv(1 << 16)
            except OSError:
                return
            try:
                fields = decode(data)
            except (ValueError, RecursionError) as error:
                self._complain(error)
            else:
                self._on_record(fields)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            logger.error("a worker wrote what is no log record; more of that is dropped silently: %s", error)
