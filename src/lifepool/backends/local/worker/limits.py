"""A worker's hard limit of memory."""

from __future__ import annotations

import contextlib
import resource


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
