"""A worker's memory: the hard limit, and what it uses now."""

from __future__ import annotations

import contextlib
import os
import resource
import sys

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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
    """The memory that this process really occupies, in bytes; on macOS the most it ever did."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
