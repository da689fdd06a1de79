"""Find and end what a worker's tasks have started: programs, their children, and theirs.

Who belongs to a worker
    Each worker leads a process group of its own, and what it starts is in that group by itself. On Linux what is below
    it in the tree of processes belongs to it too, also in a session of its own (``start_new_session=True``).

    A daemon that has left both, by a new session *and* the end of its parent, was meant to outlive who started it, and
    is left alone.

When it ends
    With the worker, however that ends. The server kills a worker together with all that belongs to it; when one has
    died by itself, the template ends its group. And with the task, if that was broken off and the worker goes on.

Who reaps it
    The template. It adopts orphans (it is a *child subreaper*, on Linux), which else would go to process 1: in a
    container that is often the server, which reaps nothing but its own children.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Processes below one that are looked at: to find them takes some 30 µs each.
MOST = 1000
#: Seconds in which killed processes are waited for. They need milliseconds.
REAP_S = 0.1

_TICK_S = 0.001
_PR_SET_CHILD_SUBREAPER = 36
_PROC = "/proc"


class Status(NamedTuple):
    """What ``/proc`` says of a process: whose child it is, its group, and when it was started, in clock ticks."""

    parent: int
    group: int
    started: int


def status(pid: int) -> Status | None:
    """Read a process's status; None if there is none, or the system has no ``/proc``."""
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # what precedes may hold anything
        return Status(int(fields[1]), int(fields[2]), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def children(pid: int) -> list[int]:
    """List the children of a process; empty if it has ended, or the system does not say."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"{_PROC}/{pid}/task"):
            with contextlib.suppress(FileNotFoundError), open(f"{_PROC}/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        return []
    return found


def below(pids: Iterable[int]) -> list[int]:
    """List these processes and all below them, each after its parent; ``MOST`` at most."""
    found: list[int] = []
    to_see = list(pids)
    while to_see and len(found) < MOST:
        pid = to_see.pop()
        found.append(pid)
        to_see += children(pid)
    return found


def end_family(worker: int, started: int | None) -> list[int]:
    """Kill a worker and all that belongs to it; also what is left of it if it has ended itself.

    Args:
        worker: The leader of the group.
        started: When it was started, if that is known: another process may have the same number by now.

    Returns:
        The processes that were found.
    """
    now = status(worker)
    if now is not None and started is not None and now.started != started:
        return []
    family = below([worker])
    outside = [pid for pid in family[1:] if (state := status(pid)) is not None and state.group != worker]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    if now is not None or started is None:  # it may not lead its group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(worker, signal.SIGKILL)
    for pid in outside:
        _kill(pid)
    return family


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def lead_group() -> None:
    """Make this process the leader of a group of its own: what it starts belongs to it."""
    with contextlib.suppress(PermissionError):  # it leads a session, and so a group
        os.setpgid(0, 0)


def adopt_orphans() -> None:
    """Become the parent of whatever lies below this process and loses its own (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


# -- in a worker: what a task that was broken off has left ---------------------------------------------------------


class Owner(Protocol):
    """What has started a process, and notices by itself when that has ended."""

    @property
    def pid(self) -> int | None:
        """Return the process, if there is one now."""


_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def leave_reaping_to(owner: Owner) -> None:
    """Let nobody else reap the process of this object."""
    _owners.add(owner)


#: Children that outlive the task in which they were started: their pid, and when they were started.
_kept: set[tuple[int, int]] = set()


def keep_what_is_there() -> None:
    """Let what has been started so far outlive all tasks; before the first one (Linux).

    The time of a process's start is known to 10 ms only: a task may begin in the same ones.
    """
    _kept.update(_with_starts(_own_children()))


@contextlib.contextmanager
def keeping_children() -> Iterator[None]:
    """Let what is started meanwhile outlive its task, unless this ends with an error (Linux)."""
    before = _with_starts(_own_children())
    yield
    _kept.update(_with_starts(_own_children()) - before)


def _with_starts(pids: Iterable[int]) -> set[tuple[int, int]]:
    return {(pid, state.started) for pid in pids if (state := status(pid)) is not None}


def end_started_since(began_ns: int) -> None:
    """Kill what this worker has started since then, and reap it (Linux).

    Not what was there before: a helper that the initializer has started goes on. Nor what later tasks have too: what a
    resource has started that this task was the first to need, the processes of a standard executor that is kept (it
    would start none anew), and the two helpers by which ``multiprocessing`` starts processes and tracks resources; what
    the first has started ends.

    Args:
        began_ns: By ``time.perf_counter_ns``.
    """
    if sys.platform != "linux":
        return
    age_s = (time.perf_counter_ns() - began_ns) * 1e-9
    hertz = os.sysconf("SC_CLK_TCK")
    began = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age_s) * hertz)
    spared = {os.getpid(), *_stdlib_helpers()}
    roots = [pid for pid, started in _with_starts(_own_children()) - _kept if pid not in spared and started >= began]
    if roots and (kept := _of_executors()):
        roots = [pid for pid in roots if pid not in kept]
    if roots:
        family = below(roots)
        for pid in family:
            _kill(pid)
        _reap(set(roots) - {owner.pid for owner in _owners})


def _own_children() -> Iterator[int]:
    """Yield the children of this worker, and orphans of its group, which its parent has adopted."""
    me, parent = os.getpid(), os.getppid()
    yield from children(me)
    for pid in _stdlib_helpers():
        yield from children(pid)
    for pid in children(parent):
        if (state := status(pid)) is not None and state.group == me:
            yield pid


def _of_executors() -> set[int]:
    """Return the processes of the standard executors that are still in use; no public name leads to them.

    One that only the task has held is gone with it, at the latest when what refers to itself was collected.
    """
    managers = vars(sys.modules.get("concurrent.futures.process", object)).get("_threads_wakeups", ())
    if managers:
        gc.collect()
    executors = [manager.executor_reference() for manager in list(managers)]
    return {pid for executor in executors for pid in list(getattr(executor, "_processes", None) or ())}


def _stdlib_helpers() -> set[int]:
    """Find the pids of ``multiprocessing``'s fork server and resource tracker, which have no public names."""
    fork_server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    pids = (getattr(fork_server, "_forkserver_pid", None), getattr(tracker, "_pid", None))
    return {pid for pid in pids if pid is not None}


def _reap(pids: set[int]) -> None:
    """Take note of the end of children, first by those who have started them: they must not wait for it for ever."""
    end = time.monotonic() + REAP_S
    while True:
        owned = _left_to_owners()
        pids = {pid for pid in pids if pid in owned or not _is_reaped(pid)}
        if not pids or time.monotonic() > end:
            return
        time.sleep(_TICK_S)


def _left_to_owners() -> set[int]:
    """Let those reap who list their processes; return what is not reaped yet and in such a list."""
    subprocess, process = sys.modules.get("subprocess"), sys.modules.get("multiprocessing.process")
    if subprocess is not None:
        vars(subprocess)["_cleanup"]()
    return set() if process is None else {each.pid for each in process.active_children() if each.pid is not None}


def _is_reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # by somebody else, or it is not our child
        return True
