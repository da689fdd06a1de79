"""Be the template: the clean process that workers are forked from.

Guarantees
    The template leads a process group of its own, and so does each worker: Ctrl-C in the terminal does not reach them.
    When the template ends it takes all of them with it, also a worker in an endless loop in C, also what tasks have
    started (see ``descendants``); when it is killed itself, the kernel kills the workers (Linux). It ends when its
    server is gone: the server holds the other end of its socket, and nobody else does.

What is imported here
    ``__main__``, ``preload``, and the modules that tasks are known to need: each worker needs them, they may take a
    second, and forked from here a worker has them already. But an import may leave what must not be forked (threads,
    connections: see ``cleanliness``). Then the template notifies the server, begins anew as if it had never imported
    that module, and each worker imports it by itself. So it does if an import fails: the workers report it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import os
import signal
import socket
import sys
from dataclasses import dataclass
from multiprocessing import process, resource_tracker, spawn, util
from typing import TYPE_CHECKING, Any

from lifepool._inside import state
from lifepool.backends.local.template.cleanliness import (
    end_children,
    files_to_reopen,
    holdings,
    left_open,
    new_descriptors,
)
from lifepool.backends.local.template.forking import PARKED_S, Forker
from lifepool.backends.local.template.messages import receive_message, send_message
from lifepool.backends.local.template.reaping import Processes
from lifepool.backends.local.template.surroundings import current_folder
from lifepool.backends.local.worker.descendants import adopt_orphans
from lifepool.backends.local.worker.main_module import import_main
from lifepool.backends.local.worker.signals import calm_signals, suspend_handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.backends.local.template.cleanliness import Holdings
    from lifepool.backends.local.template.surroundings import Surroundings
    from lifepool.backends.local.worker.startup import MainScript

#: Stands for the main script among the names of modules.
MAIN = "__main__"

#: What imported modules have put into ``sys.path`` here; a worker gets the server's, and these.
added_to_path: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """Instructions of the server for its template.

    Attributes:
        preparation: What ``multiprocessing`` gives a new process: arguments, search path, and the like.
        surroundings: Folder and environment.
        main: The main script, if it is to be imported.
        modules: Names of modules to import after it.
        left_out: Those that must not be imported here.
    """

    preparation: dict[str, Any]
    surroundings: Surroundings
    main: MainScript | None
    modules: tuple[str, ...]
    left_out: frozenset[str]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a template was like before it imported anything, to be so again."""

    holdings_before: Holdings
    environment: dict[str, str]
    folder: str | None
    umask: int
    command: tuple[str, list[str]]


def run_template(line_fd: int, tracker_fd: int) -> None:
    """Be a template, for the whole life of this process.

    Args:
        line_fd: The socket on which the server gives instructions and asks for workers.
        tracker_fd: The pipe to the server's resource tracker.
    """
    processes = Processes()
    try:
        adopt_orphans()
        calm_signals()
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)
        for fd in (line_fd, tracker_fd):
            os.set_inheritable(fd, False)
        tracker: Any = vars(resource_tracker)["_resource_tracker"]
        tracker._fd = tracker_fd
        line = socket.socket(fileno=line_fd)
        for name in ("template.process", "worker.bootstrap"):  # so that workers have them
            importlib.import_module(f"lifepool.backends.local.{name}")
        begun = _beginning()
        line.settimeout(PARKED_S)
        instructions: Instructions = receive_message(line)
        line.settimeout(None)
        _prepare(instructions, line)
        handlers = _import_all(instructions, line, begun)
        send_message(line, ("ready",))
        # What was loaded lives for ever: keep the collector from touching, and so from copying, those pages.
        gc.collect()
        gc.freeze()
        Forker(line, files_to_reopen(begun.holdings_before), handlers, processes).serve()
    except (EOFError, ConnectionError, TimeoutError):
        return  # the server is gone, or has no use for this process
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        # Before anything that an imported module wants done at exit: that was for the program, not for its template.
        if os.getpgrp() == os.getpid():
            processes.end_all()
            os.killpg(os.getpid(), signal.SIGKILL)  # what an imported module has started


@contextlib.contextmanager
def _killed_with(line: socket.socket) -> Iterator[None]:
    """Have the kernel kill this process's group if the server ends, or lets go, meanwhile.

    An import may never end, and nobody looks at the socket then. As long as imports are made nothing is sent on it from
    there: what can happen to it is its end. (Elsewhere than on Linux there is no such thing.)
    """
    if not hasattr(fcntl, "F_SETSIG"):
        yield
        return
    flags = fcntl.fcntl(line, fcntl.F_GETFL)
    fcntl.fcntl(line, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(line, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(line, fcntl.F_SETFL, flags)


def _prepare(instructions: Instructions, line: socket.socket) -> None:
    """Enter the folder and the environment of the server."""
    spawn.prepare(instructions.preparation)
    try:
        instructions.surroundings.enter()
    except OSError as error:
        send_message(line, ("refused", error.errno, str(error)))
        raise


def _import_all(instructions: Instructions, line: socket.socket, begun: Beginning) -> dict[int, Any]:
    """Import what was asked for; if that does not leave this process clean, do not return but begin anew.

    Returns:
        The signal handlers that were set meanwhile.
    """
    handlers: dict[int, Any] = {}
    path = list(sys.path)
    refused: dict[str, tuple[str, str]] = {}
    with _killed_with(line):
        for name in _wanted(instructions):
            send_message(line, ("importing", name))
            before = holdings()
            failure = _import(name, instructions.main)
            calm_signals()
            handlers |= suspend_handlers()
            if failure is not None:
                refused[name] = ("failed", failure)
            elif left := left_open(before):
                refused[name] = ("left open", ", ".join(left))
    if refused:
        send_message(line, ("left out", refused))
        _begin_anew(line, begun)
    added_to_path[:] = [entry for entry in sys.path if entry not in path]
    return handlers


def _wanted(instructions: Instructions) -> list[str]:
    main = [MAIN] if instructions.main is not None else []
    return [name for name in (*main, *dict.fromkeys(instructions.modules)) if name not in instructions.left_out]


def _import(name: str, main: MainScript | None) -> str | None:
    """Import a module, as a worker would; returns what went wrong."""
    state.phase = state.Phase.IMPORTING  # a module without the guard must not start anything here
    state.start_refused = False
    current: Any = process.current_process()
    current._inheriting = True  # nor may it start processes: multiprocessing refuses while this is set
    try:
        if name == MAIN and main is not None:
            import_main(main, tell_failure=False)  # the workers will
        else:
            importlib.import_module(name)
        return "it starts a pool" if state.start_refused else None
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if hasattr(current, "_inheriting"):
            del current._inheriting
        state.phase = None
        state.start_refused = False


def _beginning() -> Beginning:
    umask = os.umask(0)
    os.umask(umask)
    return Beginning(holdings(), dict(os.environ), current_folder(), umask, (sys.executable, list(sys.orig_argv)))


def _begin_anew(line: socket.socket, begun: Beginning) -> None:
    """Be a fresh process: the same pid, the same descriptors, and nothing of what was imported."""
    for fd in new_descriptors(begun.holdings_before):
        os.set_inheritable(fd, False)
    end_children()
    with contextlib.suppress(Exception):  # such as the names of locks
        vars(util)["_run_finalizers"]()
    tracker: Any = vars(resource_tracker)["_resource_tracker"]
    for fd in (line.fileno(), tracker._fd):
        os.set_inheritable(fd, True)
    os.umask(begun.umask)
    if begun.folder is not None and begun.folder != current_folder():
        os.chdir(begun.folder)
    os.execve(*begun.command, begun.environment)  # noqa: S606 - the same program
