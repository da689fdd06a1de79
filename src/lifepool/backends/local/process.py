"""Worker processes: forked from a pool's template, and otherwise processes of ``multiprocessing``."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from multiprocessing import connection, forkserver, process, reduction, util
from multiprocessing.context import set_spawning_popen
from multiprocessing.popen_forkserver import Popen as ForkServerPopen
from typing import TYPE_CHECKING, Any

from lifepool.backends.local.wire.preparation import preparation

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.local.template import Template

#: The exit code of a worker whose end only the template knew, when that is gone. No process can have it; the 255 that
#: ``multiprocessing`` says then, any can.
UNKNOWN_EXIT = 256

#: An exit code can be read once, and two threads ask: the event loop's, and the starter's, in which ``multiprocessing``
#: looks for processes that have ended whenever it starts another one.
_reading = threading.Lock()


class WorkerProcess(process.BaseProcess):
    """A process forked from a template."""

    _start_method = "forkserver"

    def __init__(self, template: Template, target: Callable[..., object], args: tuple[Any, ...], name: str) -> None:
        super().__init__(target=target, args=args, name=name)
        self._template: Template | None = template

    @staticmethod
    def _Popen(process_obj: WorkerProcess) -> _Popen:  # noqa: N802 - the name that BaseProcess calls
        return _Popen(process_obj)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_template": None}  # it stays here when the rest goes to the child

    @property
    def was_reaped(self) -> bool:
        """Whether the exit code is known."""
        return self.exitcode is not None


class _Popen(ForkServerPopen):
    """The stdlib's, but for whose fork server it asks, that ``__main__`` is left to the worker, and an unknown end."""

    returncode: int | None

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or None as long as the process lives; waits for its end if ``flag`` is 0."""
        if self.returncode is None and connection.wait([self.sentinel], 0 if flag == os.WNOHANG else None):
            with _reading:
                if self.returncode is None:
                    self._read_returncode()
        return self.returncode

    def _read_returncode(self) -> None:
        try:
            self.returncode = forkserver.read_signed(self.sentinel)
        except (OSError, EOFError):
            self.returncode = UNKNOWN_EXIT

    def _launch(self, process_obj: WorkerProcess) -> None:
        instructions = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(preparation(process_obj.name), instructions)
            reduction.dump(process_obj, instructions)
        finally:
            set_spawning_popen(None)
        template = process_obj._template
        assert template is not None  # noqa: S101 - only the child's copy has none
        self.sentinel, to_child = template.fork(self._fds)  # type: ignore[attr-defined]
        # Kept open as long as we live: by its end the child's parent_process() knows that we are gone.
        lifeline = os.dup(to_child)
        self.finalizer = util.Finalize(self, _close_all, (lifeline, self.sentinel))
        with contextlib.suppress(BrokenPipeError), open(to_child, "wb") as stream:  # why, says what is read next
            stream.write(instructions.getbuffer())
        try:
            self.pid = forkserver.read_signed(self.sentinel)
        except EOFError:
            raise template.why_silent() from None
        if self.pid < 0:  # the template could not: there are too many processes, or there is no memory
            raise OSError(-self.pid, f"forking failed: {os.strerror(-self.pid)}")


def _close_all(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
