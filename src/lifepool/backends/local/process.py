"""Worker processes: one template per pool, and workers forked from it, by ``multiprocessing``'s fork server.

The server is never forked: it has threads, an event loop and open connections, and a fork would copy their state in
the middle of things. ``multiprocessing`` keeps one fork server for the whole program; a pool has its own, because its
preloaded modules are its own and because it must end with the pool.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import sysconfig
import threading
import weakref
from multiprocessing import connection, forkserver, process, reduction, spawn, util
from multiprocessing.context import set_spawning_popen
from multiprocessing.popen_forkserver import Popen as ForkServerPopen
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifepool.backends.local.worker.descendants import end_family, leave_reaping_to, status
from lifepool.backends.local.worker.template import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Callable

#: The module that makes a process a template; its import is all that the fork server is asked to preload.
_TEMPLATE_MODULE = "lifepool.backends.local.worker.template"

#: The exit code of a worker whose end only the template knew, when that is gone. No process can have it; the 255 that
#: ``multiprocessing`` says then, any can.
UNKNOWN_EXIT = 256

#: ``os.environ`` is one for the whole program: two pools must not start their templates at the same instant.
_environment_lock = threading.Lock()
#: An exit code can be read once, and two threads ask: the event loop's, and the starter's, in which ``multiprocessing``
#: looks for processes that have ended whenever it starts another one.
_reading = threading.Lock()


class Template:
    """The clean process that a pool's workers are forked from; started with the first worker.

    Args:
        preload: Modules that it imports before it forks anything.
        main: Where it finds ``__main__``: see ``main_to_import``.
    """

    def __init__(self, preload: tuple[str, ...], main: tuple[str | None, str | None]) -> None:
        self._preload = preload
        self._main = main
        # Its attributes are private to multiprocessing, which has no public way to stop a fork server.
        self._server: Any = forkserver.ForkServer()
        self._server.set_forkserver_preload([_TEMPLATE_MODULE])
        self.workers: weakref.WeakSet[WorkerProcess] = weakref.WeakSet()
        leave_reaping_to(self)

    @property
    def pid(self) -> int | None:
        """Its process, once it was started."""
        pid: int | None = self._server._forkserver_pid
        return pid

    def fork(self, fds: list[int]) -> tuple[int, int]:
        """Ask for a child. Blocks for as long as the start of the template takes, if it has to be started.

        Returns:
            The descriptor from which the child's pid and exit code can be read, and the one for its instructions.
        """
        with _environment_lock:
            sys_path = [entry or os.getcwd() for entry in sys.path]
            os.environ[ENVIRONMENT] = json.dumps({"preload": self._preload, "main": self._main, "sys_path": sys_path})
            try:
                pair: tuple[int, int] = self._server.connect_to_new_process(fds)
                return pair
            finally:
                os.environ.pop(ENVIRONMENT, None)

    def kill(self) -> None:
        """End every worker and the template. For one that hangs, and could not end them itself."""
        for worker in list(self.workers):
            worker.kill()
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Let it go, and reap it. It takes what is left of its workers with it."""
        with contextlib.suppress(ChildProcessError, FileNotFoundError):
            self._server._stop()


class WorkerProcess(process.BaseProcess):
    """A process forked from a template."""

    _start_method = "forkserver"

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

    @property
    def was_reaped(self) -> bool:
        """Whether the exit code is known."""
        return self.exitcode is not None


class _Popen(ForkServerPopen):
    """The stdlib's, but for whose fork server it asks, that ``__main__`` is left to the worker, and an unknown end."""

    returncode: int | None
    started: int | None = None  # in clock ticks: it is this process, and no later one with its pid

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
        preparation = spawn.get_preparation_data(process_obj.name)
        # The stdlib would import __main__ before any code of ours runs; a failure there could not be reported.
        for key in ("init_main_from_name", "init_main_from_path"):
            preparation.pop(key, None)
        set_spawning_popen(self)
        try:
            reduction.dump(preparation, instructions)
            reduction.dump(process_obj, instructions)
        finally:
            set_spawning_popen(None)
        template = process_obj._template
        assert template is not None  # noqa: S101 - only the child's copy has none
        self.sentinel, to_child = template.fork(self._fds)  # type: ignore[attr-defined]
        # Kept open as long as we live: by its end the child's parent_process() knows that we are gone.
        lifeline = os.dup(to_child)
        self.finalizer = util.Finalize(self, _close_all, (lifeline, self.sentinel))
        with open(to_child, "wb") as stream:
            stream.write(instructions.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)
        state = status(self.pid)
        self.started = None if state is None else state.started
        template.workers.add(process_obj)


def _close_all(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def main_to_import() -> tuple[str | None, str | None]:
    """Where workers find ``__main__``: (module name, None), (None, path), or (None, None) if there is nothing to find.

    Command-line tools (``uvicorn``, ``python -m uvicorn``) define no tasks, and importing them costs each worker
    hundreds of milliseconds: they are left out. So is what was typed into an interpreter.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        is_package_main = spec.name == "__main__" or spec.name.endswith(".__main__")
        return (None, None) if is_package_main else (spec.name, None)
    path = getattr(main, "__file__", None)
    if path is None or _is_tool(Path(path)):
        return None, None
    origin = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    return None, os.path.normpath(os.path.join(origin or "", path))


def _is_tool(path: Path) -> bool:
    scripts = sysconfig.get_path("scripts")
    in_scripts = bool(scripts) and path.resolve().parent == Path(scripts).resolve()
    return in_scripts or path.suffix != ".py" or not path.exists()
