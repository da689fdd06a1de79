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
import socket
import sys
import sysconfig
import threading
from multiprocessing import connection, forkserver, process, reduction, resource_tracker, spawn, util
from multiprocessing.context import set_spawning_popen
from multiprocessing.popen_forkserver import Popen as ForkServerPopen
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifepool.backends.local import forked
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
        self._left: list[WorkerProcess] = []
        forked.register(self)

    def fork(self, fds: list[int]) -> tuple[int, int]:
        """Ask for a child. Blocks for as long as the start of the template takes, if it has to be started.

        Returns:
            The descriptor from which the child's pid and exit code can be read, and the one for its instructions.
        """
        with _environment_lock:
            sys_path = [entry or os.getcwd() for entry in sys.path]
            os.environ[ENVIRONMENT] = json.dumps({"preload": self._preload, "main": self._main, "sys_path": sys_path})
            try:
                try:
                    self._server.ensure_running()
                except ChildProcessError:  # it has ended, and somebody else has reaped it
                    self._forget()
                    self._server.ensure_running()
            finally:
                os.environ.pop(ENVIRONMENT, None)
        return self._ask(fds)

    def _ask(self, fds: list[int]) -> tuple[int, int]:
        """As the stdlib's ``connect_to_new_process``, but that nothing stays open if a descriptor can't be had."""
        server = self._server
        if getattr(server, "_forkserver_authkey", None) is not None:  # Python 3.14 shakes hands first
            pair: tuple[int, int] = server.connect_to_new_process(fds)
            return pair
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as childs:
            sentinel, told = os.pipe()
            ours.callback(os.close, sentinel)
            childs.callback(os.close, told)
            instructions, to_child = os.pipe()
            ours.callback(os.close, to_child)
            childs.callback(os.close, instructions)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(server._forkserver_address)
                kept = [instructions, told, server._forkserver_alive_fd, resource_tracker.getfd()]
                reduction.sendfds(client, [*kept, *fds])
            ours.pop_all()
        return sentinel, to_child

    def let_go_in_child(self) -> None:
        """This is a forked copy of the server: the template is none of its business."""
        self._server._lock = threading.Lock()  # another thread of the parent may have held it
        self._forget()

    def _forget(self) -> None:
        """Let go of a template that is gone, or not ours."""
        server = self._server
        alive, server._forkserver_alive_fd = server._forkserver_alive_fd, None
        server._forkserver_pid = server._forkserver_address = None
        if alive is not None:
            os.close(alive)

    def kill(self) -> None:
        """End the template and, with it, every worker. For one that hangs."""
        pid = self._server._forkserver_pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Let it go, and reap it. It takes what is left of its workers with it."""
        with contextlib.suppress(ChildProcessError, FileNotFoundError):
            self._server._stop()
        left, self._left = self._left, []
        for each in left:
            each.dispose()

    def dispose_later(self, process: WorkerProcess) -> None:
        """Let go of a process that may still live when the template ends, and it with it."""
        self._left.append(process)


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
            self.pid = self._read_pid()
            with open(to_child, "wb", closefd=False) as stream:
                stream.write(instructions.getbuffer())
        except BaseException:
            self._kept[:] = [to_child]
            self.finalizer()
            raise
        finally:
            self._kept.remove(to_child)
            os.close(to_child)

    def _read_pid(self) -> int:
        """The child's pid.

        Raises:
            OSError: What the template was refused when it forked.
            EOFError: If it ended.
        """
        pid: int = forkserver.read_signed(self.sentinel)
        if pid < 0:  # see worker/forking.py
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def let_go_in_child(self) -> None:
        """This is a forked copy of the server: close what it has of the worker, and never ask about it."""
        self.returncode = UNKNOWN_EXIT
        if self.finalizer.still_active():
            self.finalizer.cancel()
            _close_all(*self._kept)


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
