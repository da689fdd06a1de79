"""What a process occupies: memory, descriptors, threads, anonymous shared memory."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass, replace
from pathlib import Path

import psutil


class _Mallinfo2(ctypes.Structure):
    """What glibc says of its heaps; see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


@dataclass(frozen=True)
class Footprint:
    """One look at a process.

    Attributes:
        rss: Resident bytes.
        fds: Open descriptors.
        threads: Threads.
        shared_maps: Mappings of shared memory: memfds, ``/dev/shm`` and anonymous ones.
        used: Bytes that the C allocator has given out; 0 if unknown.
        idle: Bytes that it keeps for the next ones. What is at the end of the arena of a thread, such as those that
            copy big payloads, it gives back to nobody, up to 64 MiB a thread.
    """

    rss: int
    fds: int
    threads: int
    shared_maps: int
    used: int = 0
    idle: int = 0

    @property
    def resident(self) -> int:
        """Return resident bytes that are not merely kept by the allocator."""
        return self.rss - self.idle

    @classmethod
    def of(cls, process: psutil.Process) -> Footprint:
        """Look at a process of this user."""
        with process.oneshot():
            return cls(
                process.memory_info().rss, process.num_fds(), process.num_threads(), _shared_mappings(process.pid)
            )

    @classmethod
    def settled(cls) -> Footprint:
        """Look at this process after giving back what is free."""
        gc.collect()
        libc = ctypes.CDLL(None)
        trim, info = getattr(libc, "malloc_trim", None), getattr(libc, "mallinfo2", None)  # glibc's
        if trim is not None:
            trim(0)
        now = cls.of(psutil.Process())
        if info is None:
            return now
        info.restype = _Mallinfo2
        found = info()
        return replace(now, used=found.uordblks + found.hblkhd, idle=found.fordblks)


def _shared_mappings(pid: int) -> int:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sum(" rw-s " in line or "/memfd:" in line or "/dev/shm/" in line for line in lines)
