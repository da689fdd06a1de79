"""Serve the server in the template: fork a worker for each request, report those that end, end with the server.

The requests come on a socket that has no name: nobody but the server can ask. Of each worker the server has a pipe from
which it reads the worker's pid, and then its exit code.

A request is told by the descriptors that it brings: none: the pool has ended, wait a while for another one; two: that
one has come, and these are its standard output and error; more: fork a worker that has them.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import errno
import os
import selectors
import signal
import socket
import sys
from multiprocessing import forkserver, reduction, resource_tracker, spawn, util
from typing import TYPE_CHECKING, Any, NoReturn

from lifepool.backends.local.template.cleanliness import has_children, reopen
from lifepool.backends.local.template.messages import GRANTED
from lifepool.backends.local.worker.signals import ignore, restore_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.local.template.reaping import Processes

#: Descriptors that a request may bring; Linux allows 253.
MOST_DESCRIPTORS = 253
#: Seconds to wait for another pool when one has ended (see ``parking.py``).
PARKED_S = 10.0


class Forker:
    """Fork workers until the server's end of the socket is closed.

    Args:
        line: The socket for requests.
        files: Descriptors of files that each worker opens again for itself.
        handlers: Signal handlers that each worker sets again.
        processes: Forks and reaps.
    """

    def __init__(self, line: socket.socket, files: list[int], handlers: dict[int, Any], processes: Processes) -> None:
        self._line = line
        self._processes = processes
        self._spare: list[int] = []
        self._files = files
        self._reporting: dict[int, int] = {}  # from a worker's pid to the pipe on which the server hears of its end
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waking, False)
        self._handlers = handlers
        self._patience_s: float | None = None  # how long to wait for a request
        signal.signal(signal.SIGCHLD, ignore)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(line, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def serve(self) -> None:
        """Fork and reap, until the server is gone or lets go."""
        while True:
            self._keep_spare()
            ready = {key.fileobj for key, _ in self._selector.select(self._patience_s)}
            if not ready:
                return  # no other pool has come
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 65536)
                self._reap()
            if self._line in ready and not self._take_request():
                return

    def _take_request(self) -> bool:
        """Fork a worker if there is a request; False if there will be none any more."""
        _close(self._spare)
        self._spare.clear()
        request = _received(self._line)
        if request is None:
            return False
        fds, is_complete = request
        if not is_complete:  # this process may have no more of them
            for report in fds[1:2]:
                _tell(report, -errno.EMFILE)
            _close(fds)
            return True
        if len(fds) <= 2:
            return self._change_pool(fds)
        instructions, report, *rest = fds
        try:
            pid = self._processes.fork()
        except OSError as error:  # the machine is at a limit: this start fails, and no other
            _tell(report, -(error.errno or 1))
            _close(fds)
            return True
        if pid == 0:
            self._become_worker(instructions, report, rest)
        self._reporting[pid] = report
        _close([instructions, *rest])
        _tell(report, pid)
        return True

    def _change_pool(self, fds: list[int]) -> bool:
        """Wait for another pool, or begin with it; False if this process must end with the one that it had."""
        if fds:
            self._patience_s = None
            for fd, number in zip(fds, (1, 2), strict=True):
                os.dup2(fd, number)
            _close(fds)
        else:
            self._reap()
            if has_children():  # what tasks have started ends with their pool
                return False
            self._patience_s = PARKED_S
        self._line.sendall(GRANTED)
        return True

    def _keep_spare(self) -> None:
        """Hold two descriptors, so that a request can be refused when there are no others."""
        with contextlib.suppress(OSError):
            while len(self._spare) < 2:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = self._processes.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            report = self._reporting.pop(pid, None)
            if report is not None:  # else something that an import has started
                _tell(report, os.waitstatus_to_exitcode(status))
                os.close(report)

    def _become_worker(self, instructions: int, report: int, rest: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            restore_handlers(self._handlers)
            self._selector.close()
            self._line.close()
            _close([report, self._woken, self._waking, *self._reporting.values()])
            reopen(self._files)
            code = _run(instructions, rest)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            with contextlib.suppress(Exception):
                sys.stderr.flush()
        finally:
            os._exit(code)


def _run(instructions: int, rest: list[int]) -> int:
    """Become the process that the server has described; return its exit code."""
    tracker: Any = vars(resource_tracker)["_resource_tracker"]  # what follows has no public names
    server: Any = vars(forkserver)["_forkserver"]
    if tracker._fd is not None:
        os.close(tracker._fd)
    tracker._fd, *server._inherited_fds = rest
    clear: Callable[[], None] = vars(atexit)["_clear"]  # what the template was to do at its end is not ours to do
    clear()
    ends_itself = sys.version_info < (3, 13)  # else what follows a process's work is left to who forked it
    if not ends_itself:
        atexit.register(vars(util)["_exit_function"])
    run: Any = vars(spawn)["_main"]
    code: int = run(instructions, os.dup(instructions))
    if not ends_itself:
        vars(atexit)["_run_exitfuncs"]()
    return code


def _received(line: socket.socket) -> tuple[list[int], bool] | None:
    """Receive the descriptors of the next request, and whether they are all there; None if the server is gone."""
    fds = array.array("i")
    try:
        message, ancillary, _, _ = line.recvmsg(1, socket.CMSG_SPACE(MOST_DESCRIPTORS * fds.itemsize))
    except ConnectionError:
        return None
    if not message:
        return None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if reduction.ACKNOWLEDGE:  # a bug of macOS: they must have arrived before the sender closes them
        line.send(b"A")
    return list(fds), len(fds) == message[0]


def _tell(report: int, number: int) -> None:
    with contextlib.suppress(OSError):  # the server does not listen any more
        forkserver.write_signed(report, number)


def _close(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
