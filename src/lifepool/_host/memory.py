"""Measure how much memory a process occupies."""

from __future__ import annotations

import os
import re
import sys

_OWN_RESIDENT = re.compile(rb"^Rss(?:Anon|File):\s+(\d+) kB$", re.MULTILINE)


def resident_bytes(pid: int | None = None) -> int | None:
    """Return the memory that a process itself occupies, in bytes.

    Shared memory is left out: what a worker has read of big arguments belongs to the pool, and is given back by it.

    Args:
        pid: The process; None for this one. Without ``/proc`` (macOS) only this one is known, and the most it ever
            had.

    Returns:
        None if it can't be known.
    """
    try:
        with open(f"/proc/{pid or os.getpid()}/status", "rb") as status:
            fields = status.read()
        return sum(int(kib) * 1024 for kib in _OWN_RESIDENT.findall(fields))
    except OSError:
        return _peak_bytes() if pid is None else None


def _peak_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
