"""Shared memory for big payloads: unlinked, sparse files that the server makes and workers map.

Two kinds. *Arguments*: one file a pool, written by the server, read by every worker. *Results*: one file a worker,
written by the worker, read by the server. A frame then carries only where the pickle is (``LOCATION``).

Who owns a slot
    A slot may be written anew only when nobody can read it any more; a reader that came too late would unpickle
    something else.

    Arguments: the slot belongs to a ``Lease``, and lives exactly as long as references to that: the engine holds one
    until the task is settled (it may be sent again), the backend holds one for each worker that was sent the task,
    until that worker has answered it, has provably not started it, or is provably dead. That a task was settled is not
    enough: timed out or cancelled, it may still be about to read its arguments.

    With ``copy=False`` that a worker has answered is not enough either: it must also have said that nothing of the
    slot is in use any more (``shared/argument_views.py``).

    Results: the worker owns its file. It sends locations in order, the server unpickles in that order, and counts what
    it has read in the file's first page; the worker frees the oldest ones up to that count.

Memory
    Files have no name, so nothing can be left behind, and are not in ``/dev/shm``, which containers keep small. They
    are sparse: their size is room, not memory. What was written stays in memory to be written again, until the server
    punches the free parts out. Parts without memory are written by a system call, which can report that there is none;
    a store into the map would end the process (SIGBUS), and take twice as long.

    Results are sealed against being cut short by a worker, for the same reason. Workers can't write to arguments.

Copies
    What a task or a caller gets is its own, and can be written to: unpickling copies it out of the map, once. The
    exception is ``copy=False``: read-only views of a map made for that task.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
from collections import deque
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from lifepool._core.allocator import Arena, Slot
from lifepool._core.framing import FramingError
from lifepool.backends.local.codec.sink import NoRoom, Stored, keep_memory
from lifepool.backends.local.shared.copying import address_of, move

if TYPE_CHECKING:
    from collections.abc import Callable

#: In frames: where in the file a pickle begins, and its length in bytes.
LOCATION = struct.Struct("<QQ")

GRAIN = mmap.PAGESIZE

#: What making a file or a map raises where there is no memory, no descriptor, or no permission for it. Then payloads
#: go through the sockets, which is slower and always works.
NO_SHARED_MEMORY = (OSError, OverflowError, ValueError, MemoryError)

# In the first page of a results file, as native 64-bit numbers. Written by the server, read by the worker.
_CONSUMED = 0  # results read so far
_TRIMMED = 1  # times that free memory was given back

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
        """The part that a frame names; to be released, so that the file can be closed.

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
        self.arena = Arena(start, len(memory) // GRAIN * GRAIN, GRAIN)

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
        """Everything from ``offset`` to ``end`` was written."""
        if offset <= self._warm < end:
            self._warm = -(-end // GRAIN) * GRAIN

    def patch(self, slot: Slot, may_go_on: Callable[[], bool]) -> Patch:
        """A slot to be written in another thread."""
        return Patch(self._fd, self._memory, slot, self._warm, may_go_on)

    def discard(self, slot: Slot) -> None:
        """Give back a slot whose content is of no use, and its memory."""
        self.cool(slot.start)
        if _REMOVE is not None:
            punch(self._memory, self._fd, [(slot.start, slot.end)], everything=False)
        self.arena.free(slot)

    def cool(self, offset: int) -> None:
        """The file may have no memory from this offset on."""
        self._warm = min(self._warm, offset)


class Patch:
    """One slot of a store, for another thread to write to. It touches neither the store's books nor its lock.

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
        """The slot."""
        return self._slot

    def grow(self, _slot: Slot, _used: int, _size: int) -> Slot:
        """What only the store can do.

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
    """Large data as ``copying.move`` takes it; None for what is not worth it, or can't be had that way."""
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


class Arguments:
    """The server's side of the arguments: writes them, and lends them to tasks.

    Args:
        capacity: Bytes of arguments that there can be at any time.

    Raises:
        OSError: If the system does not allow it.
    """

    def __init__(self, capacity: int) -> None:
        self._fd, self.reading_fd = create(capacity)
        try:
            self._memory = mmap.mmap(self._fd, capacity)
        except BaseException:
            os.close(self._fd)
            os.close(self.reading_fd)
            raise
        self._given_back: deque[Slot] = deque()
        self._store: Store | None = Store(self._fd, self._memory)
        self.is_dirty = False
        self.expects_big = False

    def store(self) -> Store | None:
        """Where to write the next one; None once closed. Slots that came back meanwhile are free again."""
        store = self._store
        if store is not None:
            while self._given_back:
                store.arena.free(self._given_back.popleft())
            self.is_dirty = True
        return store

    def lend(self, stored: Stored) -> Lease:
        """Tie what was stored to a lease."""
        return Lease(self._given_back, stored)

    def reserve(self, size: int) -> Lease:
        """Take a slot that another thread is to write to; then ``settle`` it.

        Raises:
            NoRoom: If there is none.
        """
        store = self.store()
        if store is None:
            raise NoRoom
        return self.lend(Stored(store.reserve(size), 0))

    def patch(self, lease: Lease, may_go_on: Callable[[], bool]) -> Patch:
        """What was reserved, for another thread."""
        store = self._store
        if store is None:
            raise NoRoom
        return store.patch(lease.stored.slot, may_go_on)

    def settle(self, lease: Lease, size: int) -> None:
        """So many bytes were written to what was reserved."""
        store, slot = self._store, lease.stored.slot
        if store is not None:
            store.arena.shrink(slot, size)
            store.warmed(slot.start, slot.start + size)
            lease.stored = Stored(slot, size)

    @property
    def taken(self) -> int:
        """Bytes of arguments that are held for tasks."""
        store = self.store()
        return 0 if store is None else store.arena.taken

    def trim(self) -> None:
        """Give free memory back to the system."""
        store = self.store()
        if store is not None:
            is_free = not store.arena.taken
            holes = store.arena.holes()
            self.is_dirty = not punch(self._memory, self._fd, holes, everything=is_free) or not is_free
            if holes:
                store.cool(holes[0][0])

    def close(self) -> None:
        """Close the file; workers keep their maps of it. May be called twice."""
        if self._store is not None:
            self._store = None
            self._memory.close()
            os.close(self._fd)
            os.close(self.reading_fd)


class Lease:
    """Holds a slot of the arguments; given back when nobody has a reference to this any more.

    The last reference may go in any thread (the garbage collector's), so it is only put on a list here.
    """

    __slots__ = ("_given_back", "is_viewed", "stored")

    def __init__(self, given_back: deque[Slot], stored: Stored) -> None:
        self._given_back = given_back
        self.is_viewed = False  # a worker may use it for longer than its task runs
        self.stored = stored

    def location(self) -> bytes:
        """Where it is, for a frame."""
        return LOCATION.pack(self.stored.slot.start, self.stored.size)

    def __del__(self) -> None:
        self._given_back.append(self.stored.slot)


class ResultReader:
    """The server's side of one worker's results.

    Args:
        capacity: Bytes of results that the worker can be ahead of the server.

    Raises:
        OSError: If the system does not allow it.
    """

    def __init__(self, capacity: int) -> None:
        self.writing_fd, reading = create(GRAIN + capacity)
        os.close(reading)
        try:
            os.pwrite(self.writing_fd, bytes(GRAIN), 0)  # so that the counters have memory
            self._memory = mmap.mmap(self.writing_fd, GRAIN + capacity)
        except BaseException:
            os.close(self.writing_fd)
            raise
        self._counters = memoryview(self._memory)[:GRAIN].cast("Q")  # one aligned store each, never half a number
        self._location = Location(self._memory, GRAIN)
        self._is_closed = False
        self.is_dirty = False

    def part(self, location: memoryview) -> memoryview:
        """The pickle that a frame names; to be released, and then counted by ``consumed``.

        Raises:
            FramingError: If it names something else.
        """
        self.is_dirty = True
        return self._location.part(location)

    def consumed(self) -> None:
        """One more was read: the worker may write there again."""
        self._counters[_CONSUMED] += 1

    def trim(self) -> None:
        """Give all memory back to the system. The worker must have no task: it writes while it has one."""
        everything = [(GRAIN, len(self._memory))]
        self.is_dirty = not punch(self._memory, self.writing_fd, everything, everything=True)
        self._counters[_TRIMMED] += 1

    def close(self) -> None:
        """Close the file; may be called twice."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self.writing_fd)
            self._counters.release()
            self._location.close()
            self._memory.close()


class ResultWriter:
    """A worker's side of its results.

    Args:
        fd: The file, as made by the server.
    """

    def __init__(self, fd: int) -> None:
        memory = mmap.mmap(fd, 0)
        self._counters = memoryview(memory)[:GRAIN].cast("Q")
        self._store = Store(fd, memory, GRAIN)
        self._sent: deque[Slot] = deque()
        self._freed = 0
        self._trimmed = 0
        self._pid = os.getpid()
        self.expects_big = False

    def store(self) -> Store:
        """Where to write the next result."""
        if os.getpid() != self._pid:
            os._exit(0)  # the task forked and let the child return: only the parent may write here
        consumed = self._counters[_CONSUMED]
        while self._freed < consumed and self._sent:
            self._store.arena.free(self._sent.popleft())
            self._freed += 1
        if self._trimmed != self._counters[_TRIMMED]:
            self._trimmed = self._counters[_TRIMMED]
            self._store.cool(GRAIN)
        return self._store

    def hand_over(self, stored: Stored) -> bytes:
        """Its location, to be sent at once: it is the server's until it has read it."""
        self._sent.append(stored.slot)
        return LOCATION.pack(stored.slot.start, stored.size)
