"""Explain why a worker could not be started: mostly the system has no more of something, and soon has again."""

from __future__ import annotations

import errno
import os

_FILES = (
    "no file descriptor is left: raise the limit of open files (ulimit -n, LimitNOFILE in systemd), "
    "or look for connections and files that are never closed"
)
_PROCESSES = (
    "no process or thread can be started: raise the limit (ulimit -u, TasksMax in systemd, pids_limit of the "
    "container), or start fewer workers"
)
_MEMORY = "the system has no memory for another process: start fewer workers, or give it more memory"
_TEMPLATE = "the template process, from which workers are forked, ended; look at the log of its start"

_HINTS = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EAGAIN: _PROCESSES,
    errno.ENOMEM: _MEMORY,
    errno.ENOBUFS: _MEMORY,
    errno.ENOENT: "the Python interpreter of this program is not where it was: is the environment still there?",
    errno.EACCES: "this program may not run its own Python interpreter, or enter its own folder, again",
    errno.E2BIG: "sys.path or the environment variables are too long to be given to another process",
}


_GENERAL = "see the cause"

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS})


def is_scarce(error: BaseException) -> bool:
    """Return whether the system had no more of something; an import says that of a compiled module in words only."""
    if isinstance(error, ImportError):
        return any(os.strerror(number) in str(error) for number in (errno.EMFILE, errno.ENFILE))
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SCARCE)


def why_not_started(
    error: BaseException, what: str = "forking a worker failed", otherwise: str | None = None
) -> tuple[str, str]:
    """Say what to report of a worker that could not be made, or of a task that could not be begun.

    Args:
        error: What was raised.
        what: What failed with it.
        otherwise: What to do if nothing was scarce. None: of a worker that a template was to fork.

    Returns:
        What happened, and what to do.
    """
    if otherwise is None:
        otherwise = _TEMPLATE if isinstance(error, (EOFError, ConnectionError, ChildProcessError)) else _GENERAL
    return f"{what}: {str(error) or repr(error)}", what_to_do(error) or otherwise


def what_to_do(error: BaseException) -> str | None:
    """Say what to do about it: what the error says itself, or what the system was short of; None if neither."""
    hint = getattr(error, "hint", None)
    if isinstance(hint, str) and hint:
        return hint
    if isinstance(error, OSError) and error.errno in _HINTS:
        return _HINTS[error.errno]
    if isinstance(error, RuntimeError) and "new thread" in str(error):
        return _PROCESSES
    if isinstance(error, ImportError) and is_scarce(error):
        return _FILES
    if isinstance(error, MemoryError):
        return _MEMORY
    return None
