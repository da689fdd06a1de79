"""What a test may not leave behind: child processes, threads, file descriptors, shared memory."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import psutil

GRACE = 10.0
"""Seconds that a process, thread or descriptor has to go away by itself once the test is over, on a busy machine."""

OTHERS_GRACE = 40.0
"""The same for shared memory, whose names do not tell whose it is, while other tests run beside this one."""

_IS_ONE_OF_MANY = "PYTEST_XDIST_WORKER" in os.environ
_TICK = 0.01  # seconds between two looks: descriptors and shared memory offer nothing to wait on
_LOOK = 0.5  # seconds between two looks at who uses the shared memory: each reads the maps of all processes
_FDS = "/proc/self/fd"
_TASKS = "/proc/self/task"
_SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Snapshot:
    """What this process holds at one moment.

    Attributes:
        processes: All descendants, apart from the standard library's two helpers.
        threads: Threads known to `threading`.
        fds: How many descriptors there are for each target, such as ``socket:[4711]``.
        shm: Named shared memory segments of this user.
    """

    processes: frozenset[psutil.Process]
    threads: frozenset[threading.Thread]
    fds: Counter[str]
    shm: frozenset[str]

    @classmethod
    def take(cls) -> Snapshot:
        """Look at this process now."""
        threads = frozenset(threading.enumerate())  # before what they may leave, or park, when they end
        _end_parked_template()
        helpers = _stdlib_helpers()
        return cls(
            processes=frozenset(p for p in _descendants() if p.pid not in helpers),
            threads=threads,
            fds=_open_fds(),
            shm=_shared_memory(),
        )

    def leaked_since(self, before: Snapshot) -> Snapshot:
        """What is here now and was not there before.

        What a process starts that was there before the test, and outlives it, is that one's: its workers come and go.
        So a test leaves no process of a pool behind that several tests share.
        """
        return Snapshot(
            processes=frozenset(p for p in self.processes - before.processes if not _is_of(p, before.processes)),
            threads=self.threads - before.threads,
            fds=self.fds - before.fds,
            shm=self.shm - before.shm,
        )

    def __bool__(self) -> bool:
        return bool(self.processes or self.threads or self.fds or self.shm)

    def __str__(self) -> str:
        lines = [f"process {_describe(p)}" for p in self.processes]
        lines += [f"thread {t.name!r}" for t in self.threads]
        lines += [f"{count} file descriptor(s) to {target}" for target, count in self.fds.items()]
        lines += [f"shared memory /dev/shm/{name}" for name in self.shm]
        return "\n".join(f"  {line}" for line in sorted(lines))


def _end_parked_template() -> None:
    """End what an executor has left for the next one; it would end by itself some seconds later."""
    parking = sys.modules.get("lifepool.backends.local.template.parking")
    if parking is not None:
        parking.place.end()


def leaks_since(before: Snapshot, grace: float | None = None) -> Snapshot:
    """Wait until nothing is left over, or the grace is, and return what is left.

    Args:
        before: The snapshot from before the test.
        grace: Seconds to wait at most; by default `GRACE`.

    Returns:
        The leaks; false if there are none.
    """
    began = time.monotonic()
    deadline = began + (GRACE if grace is None else grace)
    next_look = began + _LOOK
    leaked = Snapshot.take().leaked_since(before)
    if leaked:
        gc.collect()  # a process object in a reference cycle keeps its descriptors until then
    while leaked and (left := deadline - time.monotonic()) > 0:
        _wait_for_one(leaked, left)
        leaked = Snapshot.take().leaked_since(before)
        if leaked.shm and not (leaked.processes or leaked.threads or leaked.fds) and _IS_ONE_OF_MANY:
            deadline = began + OTHERS_GRACE
            if time.monotonic() > next_look:
                leaked = _without_others(leaked)
                next_look = time.monotonic() + _LOOK
    return _without_others(leaked)


def _without_others(leaked: Snapshot) -> Snapshot:
    if not leaked.shm:
        return leaked
    mine = (leaked.shm - _used_by_others(leaked.shm)) & _shared_memory()  # some has just gone
    return Snapshot(leaked.processes, leaked.threads, leaked.fds, mine)


def kill(leaked: Snapshot) -> None:
    """End the processes that a test left, so that they cannot disturb the next one."""
    for process in leaked.processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(leaked.processes, timeout=GRACE)


def _wait_for_one(leaked: Snapshot, left: float) -> None:
    if leaked.threads:  # these first: one may end, or park, the processes that there are
        next(iter(leaked.threads)).join(left)
    elif leaked.processes:
        psutil.wait_procs(leaked.processes, timeout=left)
    else:
        time.sleep(_TICK)


def _descendants() -> list[psutil.Process]:
    """All processes below this one. psutil looks at each of the machine: only if the tree below us has changed."""
    try:
        below = _pids_below("self")
    except OSError:  # a thread, or a process, has just ended
        below = None
    if below is None or below != _seen.below:
        _seen.processes = psutil.Process().children(recursive=True)
        _seen.below = below
    return _seen.processes


@dataclass
class _Seen:
    """The tree below this process as it was at the last look."""

    below: set[int] | None = None
    processes: list[psutil.Process] = field(default_factory=list)


_seen = _Seen()


def _pids_below(pid: int | str) -> set[int] | None:
    """The pids of all processes below one; None where the kernel keeps no list of them."""
    found = _children_of(pid)
    if found is not None:
        for child in list(found):
            found |= _pids_below(child) or set()
    return found


def _is_of(process: psutil.Process, others: frozenset[psutil.Process]) -> bool:
    """Whether one of the others has started it, or started what did."""
    try:
        return not others.isdisjoint(process.parents())
    except psutil.Error:  # it has just gone
        return False


def _children_of(pid: int | str) -> set[int] | None:
    """The pids of a process's children; None where the kernel keeps no list of them."""
    if not os.path.isdir(_TASKS):
        return None
    found: set[int] = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found.update(map(int, file.read().split()))
    return found


def _stdlib_helpers() -> dict[int, int]:
    """Pid and descriptor of multiprocessing's two helpers: they stay as long as this process.

    They are known by what the standard library itself wrote down, so a second one would be a leak.
    """
    tracker: Any = resource_tracker._resource_tracker
    server: Any = forkserver._forkserver
    held = [
        (tracker._pid, tracker._fd),
        (server._forkserver_pid, server._forkserver_alive_fd),
    ]
    return {pid: fd for pid, fd in held if pid is not None and fd is not None}


def _open_fds() -> Counter[str]:
    if not os.path.isdir(_FDS):  # not Linux
        return Counter()
    helpers = set(_stdlib_helpers().values())
    targets: Counter[str] = Counter()
    for fd in os.listdir(_FDS):
        try:
            target = os.readlink(f"{_FDS}/{fd}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if int(fd) not in helpers:
            targets[target] += 1
    return targets


def _shared_memory() -> frozenset[str]:
    if not _SHM.is_dir():
        return frozenset()
    names = set()
    with os.scandir(_SHM) as entries:
        for entry in entries:
            try:
                # A peer that benchmarks measure, or kill, leaves semaphores; nothing of ours has such a name.
                if entry.name.startswith("sem.loky-"):
                    continue
                if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                    names.add(entry.name)
            except FileNotFoundError:
                continue
    return frozenset(names)


def _used_by_others(names: frozenset[str]) -> frozenset[str]:
    """Those segments that a process which is no descendant of ours has mapped."""
    family = {os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))}
    used: set[str] = set()
    for pid in psutil.pids():
        if pid in family:
            continue
        try:
            maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
        except OSError:  # it has ended, or is somebody else's
            continue
        mapped = {line.rpartition(" ")[2] for line in maps.splitlines()}
        used |= {name for name in names if f"{_SHM}/{name}" in mapped}
    return frozenset(used)


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid} (just gone)"
