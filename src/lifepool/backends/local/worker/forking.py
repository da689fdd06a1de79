"""Keep the template alive when it can't fork: only that start fails, and whoever asked for it is told why.

The main loop of ``multiprocessing``'s fork server ends at any error, and with it would all workers. But it goes on when
a connection was aborted; so what it calls is wrapped here, and fails in that way. Before that the error's number goes,
negative, to where the server waits for the child's pid.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import time
from multiprocessing import forkserver, reduction
from typing import Any, NoReturn

#: Descriptors kept for the case that there are no others: for the connection, and for the first two that are sent
#: through it, of which the second is where the answer goes.
_SPARE = 3
#: Seconds until the next attempt if not even the spare ones are there.
_PAUSE_S = 0.05
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)

_spare: list[int] = []
_request: list[int] = []  # the descriptors of the start that is asked for


class _Instead:
    """A module as one of its users sees it: with some functions replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Listener(socket.socket):
    """Accepts a connection also when there is no descriptor for it."""

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise
        _use_spare()
        try:
            return super().accept()
        except OSError as error:
            time.sleep(_PAUSE_S)
            raise _aborted() from error


def survive_failing_forks() -> None:
    """Wrap what the fork server in this process calls; to be called after all imports."""
    _fill_spare()
    module: Any = forkserver
    module.os = _Instead(os, fork=_fork)
    module.socket = _Instead(socket, socket=_Listener)
    module.reduction = _Instead(reduction, recvfds=_receive)


def _fork() -> int:
    try:
        pid = os.fork()
    except OSError as error:
        _refuse(error)
    if pid == 0:
        _use_spare()  # the template's, not the worker's
    _request.clear()
    return pid


def _receive(connection: socket.socket, most: int) -> list[int]:
    """As ``reduction.recvfds``, but that what came is closed if it is not all."""
    fds = array.array("i")
    try:
        message, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(fds.itemsize * most))
        if reduction.ACKNOWLEDGE:
            connection.send(b"A")
    except OSError as error:
        raise _aborted() from error
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    _request[:] = fds
    if not message:
        _refuse(ConnectionAbortedError(errno.ECONNABORTED, "nothing was asked for"))
    if len(fds) % 256 != message[0]:
        _refuse(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    return list(fds)


def _refuse(error: OSError) -> NoReturn:
    """Tell the server that there is no child."""
    if len(_request) > 1:
        with contextlib.suppress(OSError):  # it waits no more
            forkserver.write_signed(_request[1], -(error.errno or errno.EAGAIN))
    for fd in _request:
        os.close(fd)
    _request.clear()
    _fill_spare()
    raise _aborted() from error


def _aborted() -> ConnectionAbortedError:
    return ConnectionAbortedError(errno.ECONNABORTED, "a worker was not started")


def _fill_spare() -> None:
    with contextlib.suppress(OSError):
        while len(_spare) < _SPARE:
            _spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _use_spare() -> None:
    while _spare:
        os.close(_spare.pop())
