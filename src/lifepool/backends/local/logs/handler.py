"""Send a worker's log records to the server, by a handler on the root logger that can't block and can't be torn."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import time
from typing import TYPE_CHECKING

from lifepool._inside import state
from lifepool.backends.local.logs.records import LEAST_BYTES, encode, shorter

if TYPE_CHECKING:
    from lifepool.backends.local.logs.records import LogSettings


class LogSender(logging.Handler):
    """Send each record as one datagram; what is too much or does not fit in is dropped and counted.

    Args:
        fd: The writing end.
        worker: The worker's number.
        per_second: Records it may send in a second.
    """

    def __init__(self, fd: int, worker: int, per_second: float) -> None:
        super().__init__()
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._worker = worker
        self._rate = per_second
        self._tokens = per_second
        self._filled = time.monotonic()
        self._dropped = 0

    def handle(self, record: logging.LogRecord) -> bool:
        """Send a record, without the lock of other handlers: a task can be interrupted anywhere; a send is whole."""
        passes = bool(self.filter(record))
        if passes:
            self.emit(record)
        return passes

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, or drop it."""
        if not self._take():
            self._dropped += 1
            return
        try:
            dropped = self._dropped
            self._send(encode(record, task=state.current_task(), worker=self._worker, dropped=dropped))
            self._dropped -= dropped
        except OSError:  # no room, or no server
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def tell_of_drops(self) -> None:
        """Report what was dropped since the last record that got through; the worker ends."""
        if self._dropped:
            last = logging.makeLogRecord({"name": "lifepool", "levelno": logging.DEBUG, "levelname": "DEBUG"})
            last.msg = "the last log records of this worker were dropped"
            with contextlib.suppress(OSError):
                self._send(encode(last, task=None, worker=self._worker, dropped=self._dropped))

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._socket.send(shorter(data, LEAST_BYTES))

    def _take(self) -> bool:
        """Take one token, of ``per_second`` that come each second."""
        now = time.monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def forward_logs(fd: int, worker: int, settings: LogSettings) -> None:
    """Send all that this process logs.

    Handlers that came with the imported modules are taken off: the server passes each record to its own.
    """
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    root = logging.getLogger()
    sender = LogSender(fd, worker, settings.per_second)
    state.exit_calls.append(sender.tell_of_drops)
    root.handlers[:] = [sender]
    root.setLevel(settings.level)
    for name, level in settings.levels:
        logging.getLogger(name).setLevel(level)
