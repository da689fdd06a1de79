"""A worker's memory: the hard limit, and what it uses now."""

from __future__ import annotations

import contextlib
import re
import resource
import sys

_OWN_RESIDENT = re.compile(rb"^Rss(?:Anon|File):\s+(\d+) kB$", re.MULTILINE)


def limit_memory(data_bytes: int | None) -> None:
    """Make allocations beyond this many bytes of data fail with ``MemoryError``.

    Limits the data segment and private mappings (``RLIMIT_DATA``, which Linux has honoured for mappings since 4.7),
    not the address space: libraries reserve that generously and never use it. Where the system does not know the
    limit, nothing happens, and only the soft limit after the task remains.
    """
    if data_bytes is not None:
        with contextlib.suppress(ValueError, OSError):
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, hard))


def resident_bytes() -> int:
    """The memory that this process itself occupies, in bytes; on macOS the most it ever did.

    Shared memory is left out: what a worker has read of big arguments belongs to the pool, and is given back by it.
    """
    try:
        with open("/proc/self/status", "rb") as status:
            fields = status.read()
        return sum(int(kib) * 1024 for kib in _OWN_RESIDENT.findall(fields))
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
