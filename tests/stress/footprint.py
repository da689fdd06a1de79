"""What a process occupies: memory, descriptors, threads, anonymous shared memory."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Footprint:
    """One look at a process.

    Attributes:
        rss: Resident bytes.
        fds: Open descriptors.
        threads: Threads.
        shared_maps: Mappings of shared memory: memfds, ``/dev/shm`` and anonymous ones.
    """

    rss: int
    fds: int
    threads: int
    shared_maps: int

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
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)
        return cls.of(psutil.Process())


def _shared_mappings(pid: int) -> int:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sum(" rw-s " in line or "/memfd:" in line or "/dev/shm/" in line for line in lines)
