"""Turn a fresh fork of the template into a worker that takes tasks."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import mmap
import os
import pickle
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING

from lifepool._core.framing import Kind, header
from lifepool._inside import state
from lifepool.backends.local.shared.argument_views import Views
from lifepool.backends.local.shared.cells import mapped
from lifepool.backends.local.shared.files import Location
from lifepool.backends.local.shared.results import ResultWriter
from lifepool.backends.local.template import program as template
from lifepool.backends.local.worker.deathsignal import die_with_parent
from lifepool.backends.local.worker.descendants import keeping_children
from lifepool.backends.local.worker.limits import die_before_server, limit_memory
from lifepool.backends.local.worker.main_module import GuardMissing, import_main
from lifepool.backends.local.worker.randomness import reseed
from lifepool.backends.local.worker.signals import calm_signals, give_signals_back_in_forks
from lifepool.backends.local.worker.task_loop import Worker

if TYPE_CHECKING:
    from lifepool.backends.local.worker.startup import WorkerSpec

#: Parts of the share that the READY frame tells.
PER_MILLE = 1000


def run_worker(
    spec: WorkerSpec,
    wire_fd: int,
    tickets_fd: int,
    control_fd: int,
    cells_fd: int = -1,
    arguments_fd: int = -1,
    results_fd: int = -1,
    logs_fd: int = -1,
) -> None:
    """Live the whole life of a worker; the target of its process.

    Args:
        spec: What it is to be.
        wire_fd: The socket for tasks and answers.
        tickets_fd: The socket for tickets.
        control_fd: The pipe that says which task an interrupt is meant for.
        cells_fd: The file where small tasks are; negative if there is none.
        arguments_fd: The file where big arguments are; negative if there is none.
        results_fd: The file for big results; negative if there is none.
        logs_fd: The socket for log records; negative if they are not wanted.
    """
    began = time.perf_counter()
    state.is_worker, state.phase, state.depth = True, state.Phase.IMPORTING, spec.depth
    give_signals_back_in_forks(state.become_ordinary)
    die_with_parent(os.getppid())  # the template, which dies with the server: also if its socket is never read again
    die_before_server()
    calm_signals()
    _show_crashes()
    wire = socket.socket(fileno=wire_fd)
    tickets = socket.socket(fileno=tickets_fd)
    results = ResultWriter(results_fd) if results_fd >= 0 else None
    cells = mapped(cells_fd) if cells_fd >= 0 else None
    worker = Worker(wire, tickets, control_fd, spec, cells, _mapped(arguments_fd), results, _views(arguments_fd, spec))
    failure = _prepare(spec, logs_fd)
    if failure is not None:
        body = pickle.dumps(failure)
        wire.sendall(header(Kind.START_FAILED, len(body)) + body)
        return
    worker.prime(spec.functions)
    worker.install_interrupt()
    state.phase = state.Phase.SERVING
    state.keeping_processes = keeping_children
    with contextlib.suppress(ConnectionError):  # the server is gone: so are we
        wire.sendall(header(Kind.READY, 0, 0, _cpu_share(began)))
        worker.serve()
        while state.exit_calls:  # before the server sees that the connection ends, and wants us gone
            state.exit_calls.pop()()


def _cpu_share(began: float) -> int:
    """Return the share of its life until now in which this process used a CPU, in thousandths."""
    return round(PER_MILLE * min(1.0, time.process_time() / max(time.perf_counter() - began, 1e-6)))


def _mapped(arguments_fd: int) -> Location | None:
    if arguments_fd < 0:
        return None
    return Location(mmap.mmap(arguments_fd, 0, prot=mmap.PROT_READ))


def _views(arguments_fd: int, spec: WorkerSpec) -> Views | None:
    return None if arguments_fd < 0 else Views(arguments_fd, spec.max_payload)


def _show_crashes() -> None:
    with contextlib.suppress(Exception):  # no stderr to write to
        faulthandler.enable()


def _prepare(spec: WorkerSpec, logs_fd: int) -> tuple[str, str | None] | None:
    """Run everything of the user's that comes before the first task; return (traceback, hint) if it fails."""
    reseed()
    try:
        spec.surroundings.enter()
    except OSError:
        return traceback.format_exc(), "a worker can't enter the folder that the server is in"
    if (failure := _import(spec)) is not None:
        return failure
    reseed()  # a module that was imported just now may have set a seed, which would be the same one in each worker
    try:
        if spec.logs is not None:
            from lifepool.backends.local.logs.handler import forward_logs  # only then: it costs some milliseconds

            forward_logs(logs_fd, spec.number, spec.logs)
        limit_memory(spec.memory_limit)
        if isinstance(spec.initializer, bytes):
            initializer, initargs = pickle.loads(spec.initializer)
            state.phase = state.Phase.INITIALIZING
            initializer(*initargs)
            state.phase = state.Phase.IMPORTING
    except BaseException:
        return traceback.format_exc(), "the initializer failed; see the traceback"
    calm_signals()  # whatever was imported or called may have set its own
    return None


def _names_main(initializer: object) -> bool:
    return isinstance(initializer, bytes) and b"__main__" in initializer


def _import(spec: WorkerSpec) -> tuple[str, str | None] | None:
    """Import the modules that tasks will need, but for those that the template has; on failure (traceback, hint)."""
    sys.path[:0] = [entry for entry in template.added_to_path if entry not in sys.path]
    try:
        # An initializer of the main script needs it, also where it would be left for later.
        if spec.main is not None and (spec.main.ahead or _names_main(spec.initializer)):
            import_main(spec.main)
    except GuardMissing as error:
        return f"importing the main script failed: {error}", state.GUARD_HINT
    except BaseException:
        return traceback.format_exc(), "importing the main script in a worker failed; see the traceback"
    try:
        for name in spec.preload:
            importlib.import_module(name)
    except BaseException:
        return traceback.format_exc(), "a module named in preload could not be imported"
    for name in spec.modules:
        with contextlib.suppress(Exception, SystemExit):  # the first task that needs it reports it
            importlib.import_module(name)
    return None
