"""Examine the machine: CPUs, memory, limits, shared memory. It reads files and makes system calls, and starts nothing.

Everything is looked up through a ``Machine``, so that tests can replace it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lifepool._host.cgroups import Files, lineage
from lifepool._host.cpus import CpuBudget, cpu_budget
from lifepool.backends.selection import is_local_supported
from lifepool.cli.doctor.findings import Finding, fail, ok, warn
from lifepool.cli.units import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FDS_PER_WORKER = 8
"""Descriptors that the server holds for a worker: sockets, pipes, the file of its results. Measured, Linux."""
FDS_OF_SERVER = 256
"""For all else: the template, the event loop, log files, and some connections."""
CONNECTIONS = 1024
"""Requests in flight that a server should bear; each is a descriptor."""
SPARE_PROCESSES = 16
"""For the template, successors that start ahead, and programs that tasks start."""
WORKER_MEMORY = 64 << 20
"""Bytes below which a worker with a few imports does not fit; a bare one holds 9 MiB."""
ADDRESS_SPACE = 5 << 30
"""Bytes of address space that the maps for big payloads reserve (they use memory only when written): 16 times
``max_payload`` for arguments, twice for each worker's results."""
THROTTLED_SHARE = 0.05
THROTTLED_PERIODS = 100


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the doctor looks.

    Attributes:
        root: Where ``/proc``, ``/dev`` and the cgroup mounts are.
        environ: The environment variables.
        budget: Says how many CPUs there are.
        resource_limit: ``resource.getrlimit`` by the limit's name: (soft, hard), -1 for none; None if unknown here.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    budget: Callable[..., CpuBudget] = cpu_budget
    resource_limit: Callable[[str], tuple[int, int] | None] = field(default_factory=lambda: system_limit)


def system_limit(name: str) -> tuple[int, int] | None:
    """Call ``resource.getrlimit`` by name; return None where the system has no such limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    number = getattr(resource, name, None)
    return None if number is None else resource.getrlimit(number)


# --- CPUs ---------------------------------------------------------------------------------------------------------


def check_cpus(machine: Machine) -> Iterator[Finding]:
    """Report how many CPUs there are, who says so, and how many workers that makes."""
    budget = machine.budget(root=machine.root, environ=machine.environ)
    yield ok("host", f"{budget.host_cpus} online")
    yield from _cpu_limits(budget)
    yield ok("servers", f"{budget.server_processes} server process(es) share them, as far as seen from this shell")
    yield _workers(budget)
    yield from _throttling(Files(machine.root, []))


def _cpu_limits(budget: CpuBudget) -> Iterator[Finding]:
    quotas = [limit for limit in budget.limits if limit.source.startswith("cgroup")]
    for limit in budget.limits:
        if limit.source == "scheduler affinity":
            yield ok("affinity", f"{limit.cpus:g} by the scheduler's affinity")
        elif limit in quotas:
            yield ok("quota", f"{limit.cpus:g} by {limit.source}")
    if not quotas:
        yield ok("quota", "none")


def _workers(budget: CpuBudget) -> Finding:
    seen = budget.describe()
    if "; ignored" in budget.source:
        return warn("workers", seen, "correct what was ignored, or set LIFEPOOL_MAX_WORKERS")
    if budget.cpus < 1:
        fix = "give the container a quota of 2 CPUs: the event loop and a worker share less than one, and stop together"
        return warn("workers", seen, fix)
    if budget.cpus / budget.server_processes < 1:
        return warn("workers", seen, "start fewer server processes: there are more of them than CPUs")
    return ok("workers", seen)


def _throttling(files: Files) -> Iterator[Finding]:
    for _, directory in lineage(files, "cpu"):
        lines = (files.read(directory / "cpu.stat") or "").splitlines()
        counts = {name: int(number) for name, _, number in (line.partition(" ") for line in lines) if number.isdigit()}
        periods, throttled = counts.get("nr_periods", 0), counts.get("nr_throttled", 0)
        if periods > THROTTLED_PERIODS and throttled / periods > THROTTLED_SHARE:
            seen = f"stopped by the quota in {throttled / periods:.0%} of {periods} periods ({directory})"
            yield warn("throttling", seen, "raise the CPU quota, or set fewer workers: the event loop stops as well")
            return


# --- memory -------------------------------------------------------------------------------------------------------


def check_memory(machine: Machine) -> Iterator[Finding]:
    """Report how much memory the container has, and what that leaves each worker."""
    limit, source = memory_limit(machine)
    if limit is None:
        yield ok("memory", "unknown on this system")
        return
    workers = machine.budget(root=machine.root, environ=machine.environ).workers
    share = limit // (workers + 1)
    seen = f"{size_text(limit)} ({source}): {size_text(share)} each for the server and {workers} worker(s)"
    if share < WORKER_MEMORY:
        yield warn("memory", seen, "give the container more memory, or set a smaller LIFEPOOL_MAX_WORKERS")
    else:
        yield ok("memory", seen)


_MEMORY_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


def memory_limit(machine: Machine) -> tuple[int | None, str]:
    """Return the bytes that this container may use, and who says so; (None, "") if nobody does."""
    files = Files(machine.root, [])
    host = _host_memory(files)
    found = [(host, "the host's")] if host else []
    for version, directory in lineage(files, "memory"):
        path = directory / _MEMORY_FILES[version]
        text = files.read(path) or ""
        if text.isdigit():
            found.append((int(text), f"cgroup v{version}, {path}"))
    return min(found, default=(None, ""), key=lambda each: each[0])


def _host_memory(files: Files) -> int | None:
    for line in (files.read(PurePosixPath("/proc/meminfo")) or "").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows, or a system that does not tell
        return None


# --- limits -------------------------------------------------------------------------------------------------------


def check_limits(machine: Machine) -> Iterator[Finding]:
    """Report limits of open files, processes and address space: what runs out under load, not in a first try."""
    workers = machine.budget(root=machine.root, environ=machine.environ).workers
    yield _open_files(machine, workers)
    yield _processes(machine, workers)
    yield _address_space(machine)


def _soft(machine: Machine, name: str) -> int | None:
    """Return the soft limit, or None if there is none."""
    limits = machine.resource_limit(name)
    # RLIM_INFINITY is -1 in some Pythons and a huge number in others.
    return None if limits is None or not 0 <= limits[0] < 1 << 62 else limits[0]


def _open_files(machine: Machine, workers: int) -> Finding:
    soft = _soft(machine, "RLIMIT_NOFILE")
    if soft is None:
        return ok("open files", "no limit")
    least = workers * FDS_PER_WORKER + FDS_OF_SERVER
    seen = f"{soft} allowed; the pool takes {workers * FDS_PER_WORKER}, and each connection one"
    fix = f"raise the limit: ulimit -n {max(4096, least + CONNECTIONS)}, or LimitNOFILE= in the service"
    if soft < least:
        return fail("open files", seen, fix)
    return warn("open files", seen, fix) if soft < least + CONNECTIONS - FDS_OF_SERVER else ok("open files", seen)


def _processes(machine: Machine, workers: int) -> Finding:
    left = _processes_left(machine)
    if left is None:
        return ok("processes", "no limit")
    count, source = left
    seen = f"{count} more allowed ({source}); the pool starts {workers + 1}"
    fix = "raise the limit (docker: --pids-limit, Kubernetes: podPidsLimit, systemd: TasksMax=, else ulimit -u)"
    if count < workers + 1:
        return fail("processes", seen, fix)
    return warn("processes", seen, fix) if count < workers + 1 + SPARE_PROCESSES else ok("processes", seen)


def _processes_left(machine: Machine) -> tuple[int, str] | None:
    found = []
    soft = _soft(machine, "RLIMIT_NPROC")
    if soft is not None:
        found.append((soft, "ulimit -u, shared by all of this user's"))
    files = Files(machine.root, [])
    for _, directory in lineage(files, "pids"):
        most, current = files.read(directory / "pids.max"), files.read(directory / "pids.current")
        if most and current and most.isdigit() and current.isdigit():
            found.append((int(most) - int(current), f"cgroup, {directory / 'pids.max'}"))
    return min(found, default=None)


def _address_space(machine: Machine) -> Finding:
    space, data = _soft(machine, "RLIMIT_AS"), _soft(machine, "RLIMIT_DATA")
    if space is not None and space < ADDRESS_SPACE:
        seen = f"{size_text(space)} of address space: big payloads can't go through shared memory"
        return warn("memory limits", seen, "remove ulimit -v: it bounds room, not memory; use max_worker_memory")
    if data is not None and data < WORKER_MEMORY:
        return warn(
            "memory limits", f"{size_text(data)} of data in each process", "remove ulimit -d; use max_worker_memory"
        )
    limits = [f"{name} {size_text(value)}" for name, value in (("address space", space), ("data", data)) if value]
    return ok("memory limits", ", ".join(limits) or "none on address space and data")


# --- processes and shared memory ----------------------------------------------------------------------------------


def check_processes(machine: Machine) -> Iterator[Finding]:
    """Report how workers start here, and how big payloads reach them."""
    if not is_local_supported():
        yield warn(
            "start method",
            f"{sys.platform}: a pool uses the standard ProcessPoolExecutor, which can't end a task that hangs",
            "run the service on Linux or macOS",
        )
        return
    yield ok("start method", "forked from a clean template; the server itself is never forked")
    yield _payloads()
    yield from _dev_shm(machine)


def _payloads() -> Finding:
    from lifepool.backends.local.outbox import ARGUMENTS_ROOM
    from lifepool.backends.local.shared.files import create
    from lifepool.config import PoolConfig

    kind = "memory without a name (memfd)" if hasattr(os, "memfd_create") else f"files in {tempfile.gettempdir()}"
    room = ARGUMENTS_ROOM * PoolConfig(max_workers=1, min_workers=1).max_payload
    try:
        for descriptor in create(room):
            os.close(descriptor)
    except (OSError, OverflowError) as error:
        seen = f"no shared memory ({error}): big payloads go through sockets, several times slower"
        return warn("big payloads", seen, "allow memfd_create in the sandbox, or a writable temporary folder")
    return ok("big payloads", f"through {kind}, room for {size_text(room)}, used when written")


def _dev_shm(machine: Machine) -> Iterator[Finding]:
    try:
        status = os.statvfs(machine.root / "dev/shm")
    except (OSError, AttributeError):
        return
    size = size_text(status.f_frsize * status.f_blocks)
    seen = f"{size}; a pool does not use it, only tasks with multiprocessing.shared_memory of their own do"
    yield ok("/dev/shm", seen)  # noqa: S108 - a word, not a path
