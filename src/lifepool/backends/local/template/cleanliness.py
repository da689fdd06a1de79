"""Find what a process holds that must not be forked, and what of it an import has left.

A worker is a copy of the template. Threads are not copied: a lock that one of them holds is never released in the copy.
Descriptors are copied, but what is behind them is one for all: of two workers that ask a question on the same
connection, one reads the other's answer. A template must have neither.

What does no harm
    Threads of a library that ends them before each fork and starts them again when it needs them, as OpenBLAS does:
    the process is forked once, on trial, and those that are left are counted. A file that is only read: each worker
    opens it again for itself, at the same position. A file that is only appended to, such as a log: each write goes to
    its end. Folders, and the devices that have no state (``/dev/null``, ``/dev/urandom``).

A file that is written in any other way has a position, and perhaps a buffer or locks (a database), that workers would
share: it counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import threading
import time
import warnings
from collections import Counter
from dataclasses import dataclass

#: Seconds that the child of the trial fork has to end; it does nothing else.
TRIAL_S = 5.0
#: Seconds that a thread, which has ended or was ended for the fork, has to be gone from the kernel's list.
GONE_S = 0.2

_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
_STATELESS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds at one moment.

    Attributes:
        descriptors: Open descriptors, and what is behind them: device, inode and mode.
        shared: Lines of the memory map that name memory shared with other processes.
        has_children: Whether it has child processes, running or not.
    """

    descriptors: dict[int, _Identity]
    shared: frozenset[str]
    has_children: bool


def holdings() -> Holdings:
    """Find out what this process holds now."""
    found: dict[int, _Identity] = {}
    for name in os.listdir(_DESCRIPTORS):
        with contextlib.suppress(OSError):  # the one of this listing is closed already
            about = os.fstat(int(name))
            found[int(name)] = (about.st_dev, about.st_ino, about.st_mode)
    return Holdings(found, _shared_memory(), has_children())


def left_open(before: Holdings) -> list[str]:
    """Say what is here, must not be forked, and was not here before; empty if nothing is."""
    now = holdings()
    kinds = Counter(_described(fd) for fd in _new(before, now) if not _is_harmless(fd))
    left = [kind if count == 1 else f"{kind} ({count} of them)" for kind, count in kinds.items()]
    if now.shared - before.shared:
        left.append("memory or a lock that is shared with other processes")
    if now.has_children and not before.has_children:
        left.append("a child process")
    threads = _threads_left()
    if threads:
        left.append("a thread" if threads == 1 else f"{threads} threads")
    return left


def new_descriptors(before: Holdings) -> list[int]:
    """Find the descriptors that were not here before."""
    return _new(before, holdings())


def files_to_reopen(before: Holdings) -> list[int]:
    """Find the descriptors, not here before, of files that a worker should open for itself."""
    return [fd for fd in new_descriptors(before) if _is_read_only_file(fd)]


def reopen(descriptors: list[int]) -> None:
    """Give this process positions of its own in files that it has inherited."""
    for fd in descriptors:
        with contextlib.suppress(OSError):  # checked in the template: it was possible there
            own = _opened_again(fd)
            os.lseek(own, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
            os.dup2(own, fd, inheritable=os.get_inheritable(fd))
            os.close(own)


def end_children() -> None:
    """Kill this process's children, where the system says who they are."""
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as children:
                for pid in map(int, children.read().split()):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)


# -- descriptors -------------------------------------------------------------------------------------------------------


def _new(before: Holdings, now: Holdings) -> list[int]:
    return [fd for fd, identity in sorted(now.descriptors.items()) if before.descriptors.get(fd) != identity]


def _is_harmless(fd: int) -> bool:
    try:
        about = os.fstat(fd)
        if stat.S_ISREG(about.st_mode):
            return _is_append_only(fd) or (_is_read_only_file(fd) and _can_be_reopened(fd))
        if stat.S_ISCHR(about.st_mode):
            return about.st_rdev in _stateless_devices()
        return stat.S_ISDIR(about.st_mode)
    except OSError:  # closed meanwhile
        return True


def _flags(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def _is_append_only(fd: int) -> bool:
    flags = _flags(fd)
    return flags & os.O_ACCMODE == os.O_WRONLY and bool(flags & os.O_APPEND)


def _is_read_only_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and _flags(fd) & os.O_ACCMODE == os.O_RDONLY
    except OSError:
        return False


def _can_be_reopened(fd: int) -> bool:
    """Return whether it can, and has a position of its own then (elsewhere than on Linux it is the same one)."""
    if not _DESCRIPTORS.startswith("/proc"):
        return False
    try:
        os.close(_opened_again(fd))
    except OSError:
        return False
    return True


def _opened_again(fd: int) -> int:
    return os.open(f"{_DESCRIPTORS}/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def _stateless_devices() -> set[int]:
    found = set()
    for path in _STATELESS:
        with contextlib.suppress(OSError):
            found.add(os.stat(path).st_rdev)
    return found


def _described(fd: int) -> str:
    """Say what a descriptor is, in words."""
    about = os.fstat(fd)
    try:
        target = os.readlink(f"{_DESCRIPTORS}/{fd}")
    except OSError:
        target = f"descriptor {fd}"
    for is_kind, name in ((stat.S_ISSOCK, "socket"), (stat.S_ISFIFO, "pipe")):
        if is_kind(about.st_mode):
            return f"an open {name}"
    if stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode):
        return f"an open device ({target})"
    if stat.S_ISREG(about.st_mode):
        return f"an open file ({target})"
    return f"an open {target.removeprefix('anon_inode:').strip('[]')}"


def _shared_memory() -> frozenset[str]:
    """List the lines of the memory map for memory that is shared and may be written, such as a lock's."""
    try:
        with open("/proc/self/maps") as lines:
            return frozenset(line.strip() for line in lines if " rw-s " in line)
    except OSError:  # not Linux
        return frozenset()


def has_children() -> bool:
    """Return whether this process has child processes, running or not; False where the system does not say."""
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


# -- threads -----------------------------------------------------------------------------------------------------------


def _threads_left() -> int:
    """Count the threads beside this one that a fork does not end."""
    if _count_threads() > 1:
        _fork_on_trial()
    end = time.monotonic() + GONE_S
    while _count_threads() > threading.active_count() and time.monotonic() < end:
        time.sleep(0.001)  # the kernel gives nothing to wait on
    return _count_threads() - 1


def _count_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _fork_on_trial() -> None:
    """Fork a child that ends at once: libraries that know about forks end their threads before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: that there are threads is what we ask
        try:
            pid = os.fork()
        except OSError:
            return
    if pid == 0:
        os._exit(0)
    deadline = time.monotonic() + TRIAL_S
    with contextlib.suppress(ChildProcessError):  # reaped by the system
        while time.monotonic() < deadline:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.001)  # the kernel gives nothing to wait on
        os.kill(pid, signal.SIGKILL)  # what it inherited keeps it from ending
        os.waitpid(pid, 0)
