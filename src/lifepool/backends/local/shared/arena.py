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

import mmap
import os
from collections import deque
from typing import TYPE_CHECKING

from lifepool.backends.local.shared.files import LOCATION, create, punch
from lifepool.backends.local.shared.store import NoRoom, Store, Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.allocator import Slot
    from lifepool.backends.local.shared.store import SlotWriter


class Arguments:
    """The server's side of the arguments: writes them, and lends them to tasks.

    Args:
        capacity: Bytes of arguments that there can be at any time.

    Raises:
        OSError: If the system does not allow it.
    """

    def __init__(self, capacity: int) -> None:
        self.reading_fd: int
        self._fd, self.reading_fd = create(capacity)
        try:
            self._memory = mmap.mmap(self._fd, capacity)
        except BaseException:
            os.close(self._fd)
            os.close(self.reading_fd)
            raise
        self._given_back: deque[Slot] = deque()
        self._store: Store | None = Store(self._fd, self._memory)
        self.is_dirty: bool = False
        self.expects_big = False

    def store(self) -> Store | None:
        """Return where to write the next one; None once closed. Slots that came back meanwhile are free again."""
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

    def slot_writer(self, lease: Lease, may_go_on: Callable[[], bool]) -> SlotWriter:
        """Return the writer of what was reserved, for another thread."""
        store = self._store
        if store is None:
            raise NoRoom
        return store.slot_writer(lease.stored.slot, may_go_on)

    def settle(self, lease: Lease, size: int) -> None:
        """Note how many bytes were written to what was reserved."""
        store, slot = self._store, lease.stored.slot
        if store is not None:
            store.arena.shrink(slot, size)
            store.warmed(slot.start, slot.start + size)
            lease.stored = Stored(slot, size)

    @property
    def taken(self) -> int:
        """Return the bytes of arguments that are in use for tasks."""
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
        self.is_viewed: bool = False  # a worker may use it for longer than its task runs
        self.stored: Stored = stored

    def location(self) -> bytes:
        """Return where it is, for a frame."""
        return LOCATION.pack(self.stored.slot.start, self.stored.size)

    def __del__(self) -> None:
        self._given_back.append(self.stored.slot)
