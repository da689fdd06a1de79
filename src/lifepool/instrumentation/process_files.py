"""The files of the multiprocess mode (in ``PROMETHEUS_MULTIPROC_DIR``): those to read, and those to remove.

A server process that dies while its siblings go on leaves what it counted: without it the sums would go backwards. Its
gauges are removed. When the whole server is started again all files of the one before are removed: else they would pile
up, and each scrape would read them all.
"""

from __future__ import annotations

import contextlib
import glob
import multiprocessing
import os
import time
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

#: Linux counts the time of a process's start in hundredths of a second, and that of a change to a file more coarsely.
_MARGIN_S = 0.05


def folder() -> str:
    """Return where the files are."""
    return os.environ["PROMETHEUS_MULTIPROC_DIR"]


def written_files() -> list[str]:
    """Return the files in which a process has written something.

    A process makes a file empty and gives it its size in a second step. The client fails to read it until then, and for
    good if the process is killed between the two.
    """
    written = []
    for path in glob.glob(os.path.join(glob.escape(folder()), "*.db")):
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            if os.stat(path).st_size:
                written.append(path)
    return written


def forget_dead_processes() -> None:
    """Remove the gauges of processes that are gone without having said so; what they counted stays.

    A server that is asked to stop sets its own to zero. One that is killed leaves them, and nobody calls
    ``mark_process_dead`` for it: uvicorn has no hook for that, as gunicorn has.
    """
    for path, pid in _files("gauge_live*"):
        if not is_alive(pid) and os.path.exists(path):
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                mark_process_dead(pid)  # type: ignore[no-untyped-call]


def remove_files_of_earlier_servers() -> int:
    """Remove all files of processes that are gone and were written before this server started; how many that were.

    A file of a process that lives is never removed, also if only the number is the same. Where it is not known when a
    process has started (elsewhere than on Linux), nothing is removed.
    """
    started = started_at(first_process())
    if started is None:
        return 0
    removed = 0
    for path, pid in _files("*"):
        with contextlib.suppress(FileNotFoundError):  # a sibling was quicker
            if not is_alive(pid) and os.stat(path).st_mtime < started - _MARGIN_S:
                os.remove(path)
                removed += 1
    return removed


def first_process(root: Path = Path("/proc")) -> int:
    """Return the process that this server began with: it started the others, and replaces those that die.

    Those are started by ``multiprocessing`` (uvicorn, hypercorn) or forked (gunicorn): a forked process has its
    parent's auxiliary vector, addresses that are random for each program that is started. What has merely started this
    server, a shell or a supervisor of many programs, is not of it.
    """
    parent = multiprocessing.parent_process()
    pid = os.getpid() if parent is None or parent.pid is None else parent.pid
    try:
        vector = (root / str(pid) / "auxv").read_bytes()
        while vector:
            above = int((root / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
            if not above or (root / str(above) / "auxv").read_bytes() != vector:
                break
            pid = above
    except (OSError, ValueError, IndexError):
        return os.getpgrp()  # it is not for us to look at: what leads the group has begun no later
    return pid


def is_alive(pid: int) -> bool:
    """Tell whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def started_at(pid: int, root: Path = Path("/proc")) -> float | None:
    """Return when a process has started, in seconds since 1970; None if that is not known."""
    try:
        ticks = int((root / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - age
    except (OSError, ValueError, IndexError):
        return None


def _files(pattern: str) -> list[tuple[str, int]]:
    """Return the client's files, ``<kind>_<pid>.db``, and whose they are."""
    found = []
    for path in glob.glob(os.path.join(glob.escape(folder()), f"{pattern}_*.db")):
        pid = path.removesuffix(".db").rpartition("_")[2]
        if pid.isascii() and pid.isdigit():
            found.append((path, int(pid)))
    return found
