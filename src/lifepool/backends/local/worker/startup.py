"""Define the instructions that a worker gets when it is started."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from lifepool._core.framing import FramingError

if TYPE_CHECKING:
    from lifepool.backends.local.codec.initializer import Initializer
    from lifepool.backends.local.logs.records import LogSettings
    from lifepool.backends.local.template.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class MainScript:
    """Where workers find the server's ``__main__``.

    Attributes:
        name: The module it is, if it was run with ``python -m``.
        path: The file, folder or archive that was run, otherwise.
        ahead: Whether workers import it before they are ready; else when a call first needs something of it.
        argv: ``sys.argv`` for its import; None: what workers have anyway.
    """

    name: str | None
    path: str | None
    ahead: bool
    argv: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """A worker's instructions; pickled by ``multiprocessing`` on the way.

    Attributes:
        number: The worker's number in its pool.
        initializer: What to call before the first task, or None; in the worker its pickle. Pickled by itself, so that a
            failure to import it is reported like a failure in it.
        preload: Modules to have imported; the template has them already, unless they failed.
        main: Where ``__main__`` is, or None.
        modules: Modules that tasks are known to need. One that can't be imported is passed over: the first task that
            needs it reports that.
        surroundings: The server's folder and environment.
        functions: Pickled functions that were called before: imported now, so that no task has to wait for that.
        max_payload: Results above this many bytes are refused.
        memory_limit: Bytes of data beyond which allocations fail with MemoryError, or None.
        measure_memory: Whether to report the resident memory after each task.
        depth: How many pools it is inside of, its own included.
        may_poll: Whether it may stay awake for its next task.
        logs: How to log, if records are to be sent to the server.
    """

    number: int
    initializer: Initializer | bytes | None
    preload: tuple[str, ...]
    main: MainScript | None
    modules: tuple[str, ...]
    surroundings: Surroundings
    functions: tuple[bytes, ...]
    max_payload: int
    memory_limit: int | None
    measure_memory: bool
    depth: int = 1
    may_poll: bool = False
    logs: LogSettings | None = None


class Descriptor:
    """A file descriptor of the server that, pickled on the way into a new process, is an open descriptor there."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd: int = fd

    def __reduce__(self) -> tuple[object, ...]:
        return (_opened, (reduction.DupFd(self.fd),))


def _opened(duplicate: Any) -> int:
    fd: int = duplicate.detach()
    return fd


def start_failure(pickled: memoryview) -> tuple[str, str | None]:
    """Return the traceback and the hint that a worker sends if it can't start."""
    try:
        error, hint = pickle.loads(pickled)
    except Exception as failure:
        raise FramingError(f"a failed start that can't be read: {failure!r}") from failure
    return error, hint
