"""Define worker processes: forked from a pool's template, and otherwise processes of ``multiprocessing``."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from multiprocessing import connection, forkserver, process, reduction, util
from multiprocessing.context import set_spawning_popen
from multiprocessing.popen_forkserver import Popen as ForkServerPopen
from typing import TYPE_CHECKING, Any

from lifepool.backends.local import fork_safety as forked
from lifepool.backends.local.template.preparation import preparation
from lifepool.backends.local.worker.descendants import end_family, status
from lifepool.backends.local.worker.signals import INTERRUPT, to_main_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.local.template.client import Template

#: The exit code of a worker whose end only the template knew, when that is gone. No process can have it; the 255 that
#: ``multiprocessing`` says then, any can.
UNKNOWN_EXIT = 256

#: An exit code can be read once, and two threads ask: the event loop's, and the starter's, in which ``multiprocessing``
#: looks for processes that have ended whenever it starts another one.
_reading = threading.Lock()


class WorkerProcess(process.BaseProcess):
    """A process forked from a template."""

    _start_method = None  # what a task starts with multiprocessing, it starts as the server would: see surroundings

    def __init__(self, template: Template, target: Callable[..., object], args: tuple[Any, ...], name: str) -> None:
        super().__init__(target=target, args=args, name=name)
        self._template: Template | None = template
        self._config: dict[str, Any]
        self._config.pop("daemon", None)  # of a daemonic server; tasks could start no processes with it

    def start(self) -> None:
        """Start it; in a daemonic process too.

        ``BaseProcess.start`` forbids those to have children, which would be left behind when their parent is
        terminated. Workers end with their server, however that ends. The rest is as it is there.
        """
        self._check_closed()  # type: ignore[attr-defined]
        assert self._popen is None, "cannot start a process twice"  # noqa: S101
        vars(process)["_cleanup"]()
        self._popen: _Popen | None = self._Popen(self)
        self._sentinel = self._popen.sentinel
        del self._target, self._args, self._kwargs  # type: ignore[attr-defined] # what was sent is of no more use
        vars(process)["_children"].add(self)

    @staticmethod
    def _Popen(process_obj: WorkerProcess) -> _Popen:  # noqa: N802 - the name that BaseProcess calls
        return _Popen(process_obj)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_template": None}  # it stays here when the rest goes to the child

    def interrupt(self) -> None:
        """Have it look into its control pipe for a task that is to be broken off."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                to_main_thread()(self.pid, INTERRUPT)

    def kill(self) -> None:
        """End it, and all that its tasks have started; what is left of them, if it has ended and nobody saw it."""
        popen = self._popen
        if popen is None or popen.pid is None:
            return
        code = popen.poll()
        if code is None or (code == UNKNOWN_EXIT and popen.started is not None):
            end_family(popen.pid, popen.started)
            if code == UNKNOWN_EXIT:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(popen.pid, os.WNOHANG)  # it has become our child if we are process 1

    def dispose(self) -> None:
        """Let go of its descriptors: now, or if it is not known to have ended, when its template ends."""
        self.join(0)
        if self.was_reaped:
            self.close()
        elif self._template is not None:
            self._template.dispose_later(self)

    @property
    def was_reaped(self) -> bool:
        """Whether the exit code is known."""
        return self.exitcode is not None


class _Popen(ForkServerPopen):
    """The stdlib's, but that it asks a template, leaves ``__main__`` to the worker, and knows an unknown end."""

    returncode: int | None
    started: int | None = None  # in clock ticks: it is this process, and no later one with its pid

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, or None as long as the process lives; waits for its end if ``flag`` is 0."""
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
        with forked.making:
            self.sentinel, to_child = template.fork(self._fds)  # type: ignore[attr-defined]
            try:
                # Kept open as long as we live: by its end the child's parent_process() knows that we are gone.
                lifeline = os.dup(to_child)
            except BaseException:
                _close_all(self.sentinel, to_child)
                raise
            self.finalizer = util.Finalize(self, _close_all, (lifeline, self.sentinel))
            self._kept = [lifeline, self.sentinel, to_child]
            forked.register(self)
        try:
            self.pid = self._read_pid(template)
            with open(to_child, "wb", closefd=False) as stream:
                stream.write(instructions.getbuffer())
        except BaseException:
            self._kept[:] = [to_child]
            self.finalizer()
            raise
        finally:
            self._kept.remove(to_child)
            os.close(to_child)
        state = status(self.pid)
        self.started = None if state is None else state.started
        template.workers.add(process_obj)
        to_main_thread()  # looked up here, beside the event loop

    def _read_pid(self, template: Template) -> int:
        """Read the child's pid.

        Raises:
            OSError: What the template was refused when it forked.
            TemplateEnded: If it ended.
        """
        try:
            pid: int = forkserver.read_signed(self.sentinel)
        except EOFError:
            raise template.why_silent() from None
        if pid < 0:  # see template/forking.py
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def let_go_in_child(self) -> None:
        """Close what a forked copy of the server has of the worker, and never ask about it."""
        self.returncode = UNKNOWN_EXIT
        if self.finalizer.still_active():
            self.finalizer.cancel()
            _close_all(*self._kept)


def _close_all(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
