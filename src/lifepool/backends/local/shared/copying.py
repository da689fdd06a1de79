"""Copies of large blocks: without the interpreter's lock, and into huge pages where the memory is new.

``ctypes`` lets go of the lock during a call, a slice assignment does not; so other threads, such as the event loop's,
go on meanwhile. It is imported here when the first large block comes, and not before: small tasks pay nothing for it.
"""

from __future__ import annotations

import contextlib
import mmap
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: The system gives memory for blocks above this many bytes, and takes it back when they are freed: glibc keeps none of
#: them, whatever it is told. A page fault for each 4 KiB then costs four times what the copy does.
FRESH_BYTES = 32 * 1024 * 1024

#: glibc does not adapt to blocks above 32 MiB; a little less, for its own header and rounding.
_LARGEST_BLOCK_KEPT = 32 * 1024 * 1024 - 64 * 1024

#: Advice for memory: on Linux, None elsewhere.
HUGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)


def address_of(block: Any) -> int:
    """Return where a writable buffer begins; the caller must keep it alive.

    Raises:
        TypeError: If it is not writable.
        ImportError: If this Python has no ctypes.
    """
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(block))


def move(target: int, source: Any, count: int) -> None:
    """Copy ``count`` bytes to an address, without the interpreter's lock.

    Args:
        target: The address.
        source: ``bytes``, or the address of what to copy.
        count: How many bytes.
    """
    import ctypes

    ctypes.memmove(target, source, count)


def prepare_fresh(start: int, size: int) -> None:
    """Ask for huge pages for a block that has no memory yet. Only advice: nothing happens where there are none.

    64 MiB are copied into such a block in 9 ms rather than 38 ms, and freed in 0.3 ms rather than 5.

    Args:
        start: Its address.
        size: Its bytes. Nothing is done for a block that comes from memory which is kept.
    """
    if size <= FRESH_BYTES or (advise := _advise()) is None:
        return
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (start + size) // mmap.PAGESIZE * mmap.PAGESIZE
    advise(first, last - first, HUGE_PAGES)


@cache
def _advise() -> Callable[..., int] | None:
    try:
        import ctypes

        advise: Callable[..., int] = ctypes.CDLL(None).madvise
    except (ImportError, OSError, AttributeError):
        return None
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)  # type: ignore[attr-defined]
    return advise if HUGE_PAGES is not None else None


class PickleFile:
    """A pickle in memory as the file of a ``pickle.Unpickler``, which has its large parts copied as said above.

    Args:
        source: The pickle. It must be kept until the unpickler is gone.
        off_loop: Whether other threads are to go on meanwhile; the source must be writable then (it is not written to).
        may_go_on: Asked before each part; False breaks off.
    """

    def __init__(
        self, source: memoryview, *, off_loop: bool = False, may_go_on: Callable[[], bool] = lambda: True
    ) -> None:
        self._source = source
        self._at = 0
        self._start = address_of(source) if off_loop else None
        self._may_go_on = may_go_on

    def read(self, count: int) -> memoryview:
        """Return the next bytes; not copied."""
        if not self._may_go_on():
            raise InterruptedError
        start = self._at
        self._at = min(start + count, len(self._source))
        return self._source[start : self._at]

    def readline(self) -> bytes:
        """Read a line, which only protocols before 5 need.

        Raises:
            ValueError: Always.
        """
        raise ValueError("not a pickle of ours")

    def readinto(self, target: memoryview) -> int:
        """Fill a block that was just allocated."""
        if len(target) > FRESH_BYTES:
            prepare_fresh(address_of(target), len(target))
        part = self.read(len(target))
        if self._start is None or len(part) < len(target):
            target[: len(part)] = part
        else:
            move(address_of(target), self._start + self._at - len(part), len(part))
        return len(part)


_largest_kept = 0


def keep_memory(size: int) -> None:
    """Have the allocator keep freed blocks of this many bytes for the next ones, as payloads of this size go by.

    glibc gives large blocks back to the system as soon as they are freed, and the page faults of the next one cost ten
    times what copying into it does. But when a block is freed that is larger than any before it, glibc takes such sizes
    for usual, and from then on keeps up to twice as much. Other allocators lose nothing by it.
    """
    global _largest_kept
    if size > _largest_kept:
        _largest_kept = size
        with contextlib.suppress(MemoryError):  # then there is none to keep
            bytes(min(2 * size, _LARGEST_BLOCK_KEPT))  # twice: the pickle of a text needs a copy of it
