"""Compute how many workers fit here: the CPUs this process may really use, shared with its sibling servers.

`os.cpu_count()` names the host's CPUs. In a container that is the wrong number: under a quota of
two CPUs on a host of 64 it makes 64 workers, which the kernel then freezes, the event loop with
them, for most of every 100 ms. So the budget is the tightest of the scheduler's affinity and the
CPU quotas of the process's own cgroup and of every ancestor, divided by the number of server
processes that each make such a pool.

Guarantees: a file or a variable that is missing, unreadable or malformed never raises; it is left
out, and `CpuBudget.source` says so. Nothing here waits, starts a process or imports anything heavy.

Limits: server processes that are counted in a file (`workers = 4` in `gunicorn.conf.py`) or by an
orchestrator (several replicas on one host without quotas) cannot be seen from in here. Set
`WEB_CONCURRENCY` or `LIFEPOOL_MAX_WORKERS` then.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from lifepool._host.cgroups import Files, lineage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["CpuBudget", "CpuLimit", "cpu_budget", "may_poll"]


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """So many CPUs, and who says so."""

    cpus: float
    source: str


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """How many workers one pool should have, and why.

    Attributes:
        workers: Workers for this server process; at least 1.
        cpus: CPUs that all server processes share, before division; quotas make it fractional.
        host_cpus: CPUs that the host has online.
        server_processes: Server processes that share `cpus`; 1 when nothing says otherwise.
        source: Where the numbers come from, as a phrase for a log line.
        limits: Everything that was looked at; the tightest made `cpus`.
    """

    workers: int
    cpus: float
    host_cpus: int
    server_processes: int
    source: str
    limits: tuple[CpuLimit, ...] = field(default=(), compare=False, repr=False)

    def describe(self) -> str:
        """Return one line for the log: the number of workers and where it comes from."""
        return f"{_plural(self.workers, 'worker')}: {self.source}"


def cpu_budget(
    *,
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    argv: Sequence[str] | None = None,
    host_cpus: int | None = None,
    affinity: int | None = None,
    process: object = None,
) -> CpuBudget:
    """Return how many workers one pool in this process should have.

    A fraction is rounded down: of a quota of 1.5 CPUs, the event loop's own process runs on the
    half that is left. Rounded up, two workers would spend the whole quota, and the kernel would
    freeze the loop together with them: latency given for throughput, the wrong way round here.

    Args:
        root: Where `/proc` and the cgroup mounts are looked up.
        environ: The environment variables.
        argv: The server's command line; None means `sys.argv`. That is right in the processes that
            a server starts as well: forked ones keep it, and multiprocessing's `spawn` and
            `forkserver` hand the parent's on before the child imports the app.
        host_cpus: CPUs of the host; None asks `os.cpu_count`.
        affinity: CPUs that the scheduler lets this process use; None asks the operating system.
        process: The multiprocessing process that may hold its server's configuration; None means
            the current one.
    """
    ignored: list[str] = []
    host = host_cpus or os.cpu_count() or 1
    limits = [*_scheduler_limits(host, affinity), *_cgroup_limits(Files(root, ignored))]
    tightest = min(limits, key=lambda limit: limit.cpus)
    servers = _server_processes(environ, sys.argv if argv is None else argv, process or _current_process(), ignored)
    return CpuBudget(
        workers=max(1, math.floor(tightest.cpus / servers.count)),
        cpus=tightest.cpus,
        host_cpus=host,
        server_processes=servers.count,
        source=_phrase(tightest, host, servers, ignored),
        limits=tuple(limits),
    )


def may_poll(*, root: Path = Path("/"), cpus: int | None = None) -> bool:
    """Return whether processes here may look for work without sleeping, for microseconds at a time.

    Not on a single CPU: whoever is waited for needs it. And not under a CPU quota that is smaller than what the
    scheduler allows: what is polled is then taken from the work, and when the quota is used up all stand still.

    Args:
        root: Where `/proc` and the cgroup mounts are looked up.
        cpus: CPUs that this process may use; None asks the operating system.
    """
    if not hasattr(os, "sched_yield"):
        return False
    allowed = cpus or min(limit.cpus for limit in _scheduler_limits(os.cpu_count() or 1, None))
    return allowed > 1 and all(limit.cpus >= allowed for limit in _cgroup_limits(Files(root, [])))


def _phrase(limit: CpuLimit, host: int, servers: _Servers, ignored: Sequence[str]) -> str:
    phrase = f"{_plural(limit.cpus, 'CPU')} ({limit.source}; host has {host})"
    if servers.count > 1:
        phrase += f", divided by {servers.count} server processes ({servers.source})"
    return "; ignored ".join([phrase, *ignored])


def _plural(count: float, noun: str) -> str:
    return f"{count:.4g} {noun}{'' if count == 1 else 's'}"


# --- what the scheduler allows --------------------------------------------------------------------


def _scheduler_limits(host: int, affinity: int | None) -> Iterator[CpuLimit]:
    yield CpuLimit(host, "no limit set")
    if affinity is None and hasattr(os, "sched_getaffinity"):
        affinity = len(os.sched_getaffinity(0))
    if affinity is not None:
        yield CpuLimit(affinity, "scheduler affinity")
    # Python 3.13+: also honors PYTHON_CPU_COUNT and -X cpu_count.
    process_cpu_count = getattr(os, "process_cpu_count", None)
    if process_cpu_count is not None:
        yield CpuLimit(process_cpu_count() or host, "os.process_cpu_count")


# --- what the control groups allow (Linux) --------------------------------------------------------


def _cgroup_limits(files: Files) -> Iterator[CpuLimit]:
    """Yield every CPU quota that this process is under: its own and its ancestors'."""
    for version, directory in lineage(files, "cpu"):
        yield from _quota(files, directory, _QUOTA_FILES[version])


_QUOTA_FILES = {
    1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"),  # two files of one number each, in microseconds
    2: ("cpu.max",),  # "quota period", in microseconds
}
_UNLIMITED = frozenset({"max", "-1"})


def _quota(files: Files, directory: PurePosixPath, names: tuple[str, ...]) -> Iterator[CpuLimit]:
    texts = [files.read(directory / name) for name in names]
    if None in texts:
        return
    text = " ".join(filter(None, texts))
    path = directory / names[0]
    try:
        cpus = _quota_cpus(text)
    except (ValueError, OverflowError):
        files.ignored.append(f"malformed {path} ({text[:40]!r})")
        return
    if cpus is not None:
        version = "v2" if names[0] == "cpu.max" else "v1"
        yield CpuLimit(cpus, f"cgroup {version} quota {cpus:.2f} at {path}")


def _quota_cpus(text: str) -> float | None:
    quota, period = text.split()
    if quota in _UNLIMITED:
        return None
    if int(quota) <= 0 or int(period) <= 0:
        raise ValueError(text)
    return int(quota) / int(period)


# --- who else shares the CPUs ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Servers:
    count: int
    source: str


@dataclass(frozen=True, slots=True)
class _Server:
    """How a server is told its number of processes; what comes first wins, as it does there."""

    options: tuple[str, ...]
    variables: tuple[str, ...]
    arguments: str = ""  # the variable that holds further command-line arguments


# Checked against uvicorn 0.54, gunicorn 27.0, hypercorn 0.18, granian 2.8 and fastapi-cli 0.0.34.
_SERVERS = {
    "uvicorn": _Server(("--workers",), ("UVICORN_WORKERS", "WEB_CONCURRENCY")),
    "fastapi": _Server(("--workers",), ("WEB_CONCURRENCY",)),
    "gunicorn": _Server(("--workers", "-w"), ("WEB_CONCURRENCY",), arguments="GUNICORN_CMD_ARGS"),
    "hypercorn": _Server(("--workers", "-w"), ()),
    "granian": _Server(("--workers",), ("GRANIAN_WORKERS",)),
}
# Any other program: its options may mean anything, but the variable is a convention of its own.
_OTHER_PROGRAM = _Server((), ("WEB_CONCURRENCY",))


def _server_processes(environ: Mapping[str, str], argv: Sequence[str], process: object, ignored: list[str]) -> _Servers:
    configured = _from_configuration(process)
    if configured is not None:
        return configured
    server = _SERVERS.get(_program(argv), _OTHER_PROGRAM)
    for name, text in _given(server, environ, argv, ignored):
        if re.fullmatch(r"0*[1-9][0-9]{0,5}", text):
            return _Servers(int(text), f"{name}{int(text)}")
        ignored.append(f"{name}{text[:40]!r} (not a whole number >= 1)")
    return _Servers(1, "")


def _given(
    server: _Server, environ: Mapping[str, str], argv: Sequence[str], ignored: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield what the server was given, as (name with its separator, text), the strongest first."""
    try:
        arguments = shlex.split(environ.get(server.arguments, ""))
    except ValueError:
        ignored.append(f"malformed {server.arguments}")
        arguments = []
    text = _last_option([*arguments, *argv[1:]], server.options)
    if text is not None:
        yield "--workers ", text
    for name in server.variables:
        if environ.get(name):
            yield f"{name}=", environ[name]


def _last_option(arguments: Sequence[str], names: tuple[str, ...]) -> str | None:
    """Return the value of the last `--workers 2`, `--workers=2`, `-w 2` or `-w2`."""
    value = None
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, attached = argument.partition("=")
        if name in names:
            value = attached if equals else following
        elif argument[:2] in names:
            value = argument[2:]
    return value


def _program(argv: Sequence[str]) -> str:
    """Return `uvicorn` for `/bin/uvicorn`, `uvicorn.exe` and `.../uvicorn/__main__.py`."""
    path = PurePath(argv[0] if argv else "")
    return path.parent.name if path.name == "__main__.py" else path.stem


def _current_process() -> object:
    """Return multiprocessing's current process; where nobody imported it, there is none."""
    module = sys.modules.get("multiprocessing.process")
    return module.current_process() if module is not None else None


def _from_configuration(process: object) -> _Servers | None:
    """Return what the server's own configuration says, where it is handed to each process.

    uvicorn and hypercorn start their processes with `kwargs={"config": ...}`. It is the only trace
    of `uvicorn.run("app:app", workers=4)` in a script, and the only exact answer: `--reload`, for
    one, overrules `--workers`. Should it go away, the command line below still tells.
    """
    config = getattr(process, "_kwargs", {}).get("config")
    package = type(config).__module__.partition(".")[0]
    workers = getattr(config, "workers", None)
    if package not in _SERVERS or not isinstance(workers, int):
        return None
    if getattr(config, "should_reload", False):
        return _Servers(1, f"{package} reload")
    return _Servers(max(1, workers), f"{package} workers={workers}")
