"""Limit a worker's memory: its own, and who is killed first when the machine has none left."""

from __future__ import annotations

import contextlib
import resource

#: Added to the server's score; a thousand of them are all of the machine's (or the container's) memory.
OOM_SCORE_ABOVE_SERVER = 300
_MOST_OOM_SCORE, _NEVER_KILL = 1000, -1000
_OOM_SCORE = "/proc/self/oom_score_adj"


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


def die_before_server() -> None:
    """Have the kernel, when memory runs out, kill this process rather than its server (Linux).

    A worker can be replaced, and only its task is lost; with the server everything is. The score is only ever raised,
    which needs no privilege. ``-1000`` means that somebody has forbidden to kill this service, and is left alone.
    """
    with contextlib.suppress(OSError, ValueError), open(_OOM_SCORE, "r+") as file:
        score = int(file.read())
        if score != _NEVER_KILL:
            file.seek(0)
            file.write(str(min(score + OOM_SCORE_ABOVE_SERVER, _MOST_OOM_SCORE)))
