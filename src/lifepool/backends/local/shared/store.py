"""A shared file with an arena: reserve slots and write into them, from the event loop or from another thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool._core.allocator import Arena, Slot
from lifepool.backends.local.shared.copying import address_of, move
from lifepool.backends.local.shared.files import GRAIN, can_punch, punch

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable


class NoRoom(Exception):
    """Shared memory is full, or the system refuses to give more. The socket always works."""


class Stored(NamedTuple):
    """A pickle in shared memory: its slot, and its length in bytes."""

    slot: Slot
    size: int


class Store:
    """A shared file with an arena: the side that writes.

    Args:
        fd: The file.
        memory: Its map, writable.
        start: The first offset to use.
    """

    def __init__(self, fd: int, memory: mmap.mmap, start: int = 0) -> None:
        self._fd = fd
        self._memory = memory
        self._warm = start  # the file has memory below this offset, as far as slots are written one above the other
        self.arena: Arena = Arena(start, len(memory) // GRAIN * GRAIN, GRAIN)

    def reserve(self, size: int) -> Slot:
        """Take a slot.

        Raises:
            NoRoom: If there is none.
        """
        slot = self.arena.reserve(size)
        if slot is None:
            raise NoRoom
        return slot

    def grow(self, slot: Slot, used: int, size: int) -> Slot:
        """Make room for ``size`` bytes, of which ``used`` are written: in place, else by moving them.

        Raises:
            NoRoom: If there is none; the slot stays as it was.
        """
        wanted = max(size, 2 * used)
        if self.arena.extend(slot, wanted) or self.arena.extend(slot, size):
            return slot
        larger = self.reserve(wanted)
        try:
            with memoryview(self._memory)[slot.start : slot.start + used] as written:
                self.write(larger.start, written)
        except BaseException:
            self.discard(larger)
            raise
        self.arena.free(slot)
        return larger

    def write(self, offset: int, data: Any) -> None:
        """Copy ``data``, any contiguous buffer, to ``offset``.

        Raises:
            NoRoom: If the system has no memory for it.
        """
        end = offset + len(data)
        if end <= self._warm:
            self._memory[offset:end] = data
            return
        write_all(self._fd, offset, data)
        self.warmed(offset, end)

    def warmed(self, offset: int, end: int) -> None:
        """Note that everything from ``offset`` to ``end`` was written."""
        if offset <= self._warm < end:
            self._warm = -(-end // GRAIN) * GRAIN

    def slot_writer(self, slot: Slot, may_go_on: Callable[[], bool]) -> SlotWriter:
        """Return the writer of a slot, for another thread."""
        return SlotWriter(self._fd, self._memory, slot, self._warm, may_go_on)

    def discard(self, slot: Slot) -> None:
        """Give back a slot whose content is of no use, and its memory."""
        self.cool(slot.start)
        if can_punch():
            punch(self._memory, self._fd, [(slot.start, slot.end)], everything=False)
        self.arena.free(slot)

    def cool(self, offset: int) -> None:
        """Note that the file may have no memory from this offset on."""
        self._warm = min(self._warm, offset)


class SlotWriter:
    """One slot of a store, for another thread to write to. It changes nothing of the store itself.

    Args:
        fd: The file.
        memory: Its map.
        slot: What may be written.
        warm: The file has memory below this offset. That stays so as long as the slot is taken.
        may_go_on: Asked before each piece; False breaks off.
    """

    def __init__(self, fd: int, memory: mmap.mmap, slot: Slot, warm: int, may_go_on: Callable[[], bool]) -> None:
        self._fd = fd
        self._start = address_of(memory)
        self._slot = slot
        self._warm = warm
        self._may_go_on = may_go_on

    def reserve(self, _size: int) -> Slot:
        """Return the slot."""
        return self._slot

    def grow(self, _slot: Slot, _used: int, _size: int) -> Slot:
        """Refuse: only the store can do that.

        Raises:
            NoRoom: Always.
        """
        raise NoRoom

    def write(self, offset: int, data: Any) -> None:
        """Copy ``data`` to ``offset``, without the interpreter's lock if it is large.

        Raises:
            NoRoom: If the system has no memory for it, or the work was broken off.
        """
        if not self._may_go_on():
            raise NoRoom
        if offset + len(data) > self._warm or (source := _source_of(data)) is None:
            write_all(self._fd, offset, data)
        else:
            move(self._start + offset, source, len(data))


def _source_of(data: Any) -> Any:
    """Return large data as ``copying.move`` takes it; None for what is not worth it, or can't be had that way."""
    if len(data) < GRAIN:
        return None
    if type(data) is bytes:
        return data
    try:
        return address_of(data)
    except TypeError:  # it can't be written to
        return None


def write_all(fd: int, offset: int, data: Any) -> None:
    """Write ``data``, any contiguous buffer, into a file by system calls, which let go of the interpreter's lock.

    Raises:
        NoRoom: If the system has no memory for it.
    """
    try:
        with memoryview(data) as rest:
            written = 0
            while written < len(rest):
                with rest[written:] as piece:
                    written += os.pwrite(fd, piece, offset + written)
    except OSError as error:
        raise NoRoom from error
