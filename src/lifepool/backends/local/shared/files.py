"""Shared files without a name: make them, map parts of them, give their memory back."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
from heapq import nlargest

from lifepool._core.framing import FramingError
from lifepool.backends.local.shared.copying import keep_memory

#: In frames: where in the file a pickle begins, and its length in bytes.
LOCATION = struct.Struct("<QQ")

GRAIN = mmap.PAGESIZE

#: What making a file or a map raises where there is no memory, no descriptor, or no permission for it. Then payloads
#: go through the sockets, which is slower and always works.
NO_SHARED_MEMORY = (OSError, OverflowError, ValueError, MemoryError)

_HAS_MEMFD = hasattr(os, "memfd_create")
_REMOVE = getattr(mmap, "MADV_REMOVE", None)  # Linux alone can punch holes into a map

#: One trim punches at most this many holes, the largest: it runs on the event loop, at about 3 µs each.
_HOLES_PUNCHED = 256


def create(capacity: int) -> tuple[int, int]:
    """Make a file without a name, and without memory as yet.

    Returns:
        A descriptor for reading and writing, and one for reading only.

    Raises:
        OSError: If the system does not allow it.
        OverflowError: If the system can't even count that far.
    """
    fd, path = _new_file()
    reading = -1
    try:
        reading = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.ftruncate(fd, capacity)
        if _HAS_MEMFD:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        if reading >= 0:
            os.close(reading)
        raise
    finally:
        if not _HAS_MEMFD:
            os.unlink(path)
    return fd, reading


def _new_file() -> tuple[int, str]:
    if not _HAS_MEMFD:
        return tempfile.mkstemp(prefix="lifepool-")
    fd = os.memfd_create("lifepool", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    return fd, f"/proc/self/fd/{fd}"


def can_punch() -> bool:
    """Return whether the memory of any part of a file can be given back while the file stays."""
    return _REMOVE is not None


def punch(memory: mmap.mmap, fd: int, holes: list[tuple[int, int]], *, everything: bool) -> bool:
    """Give the memory of these parts back to the system; whether that was possible.

    Where there is no way to do that for a part, it is done when ``everything`` between the holes is free as well.
    """
    try:
        if _REMOVE is not None:
            for start, end in nlargest(_HOLES_PUNCHED, holes, lambda hole: hole[1] - hole[0]):
                memory.madvise(_REMOVE, start, end - start)
            return True
        if everything and holes:
            size = len(memory)
            os.ftruncate(fd, holes[0][0])
            os.ftruncate(fd, size)
        return everything
    except OSError:  # it stays with us, and is written to again
        return False


class Location:
    """Parts of a mapped file that the other side names.

    Args:
        memory: The map.
        start: The first offset that may be named.
    """

    def __init__(self, memory: mmap.mmap, start: int = 0) -> None:
        self._view = memoryview(memory)
        self._start = start

    def part(self, location: memoryview) -> memoryview:
        """Return the part that a frame names; to be released, so that the file can be closed.

        Raises:
            FramingError: If it names something else than a part of this file.
        """
        if len(location) != LOCATION.size:
            raise FramingError(f"a location has {LOCATION.size} bytes, not {len(location)}")
        offset, length = LOCATION.unpack(location)
        if offset < self._start or offset + length > len(self._view):
            raise FramingError(f"{length:,} bytes at {offset:,} are not in the shared memory")
        keep_memory(length)
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Let go of the map."""
        self._view.release()
