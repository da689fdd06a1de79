"""Big results in shared memory: one file a worker, written by the worker, read by the server (see ``arena.py``)."""

from __future__ import annotations

import mmap
import os
from collections import deque
from typing import TYPE_CHECKING

from lifepool.backends.local.shared.files import GRAIN, LOCATION, Location, create, punch
from lifepool.backends.local.shared.store import Store

if TYPE_CHECKING:
    from lifepool._core.allocator import Slot
    from lifepool.backends.local.shared.store import Stored

# In the first page of a results file, as native 64-bit numbers. Written by the server, read by the worker.
_CONSUMED = 0  # results read so far
_TRIMMED = 1  # times that free memory was given back


class ResultReader:
    """The server's side of one worker's results.

    Args:
        capacity: Bytes of results that the worker can be ahead of the server.

    Raises:
        OSError: If the system does not allow it.
    """

    def __init__(self, capacity: int) -> None:
        self.writing_fd: int
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
        self.is_dirty: bool = False

    def part(self, location: memoryview) -> memoryview:
        """Return the pickle that a frame names; to be released, and then counted by ``consumed``.

        Raises:
            FramingError: If it names something else.
        """
        self.is_dirty = True
        return self._location.part(location)

    def consumed(self) -> None:
        """Count one more as read: the worker may write there again."""
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
        """Return where to write the next result."""
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
        """Return its location, to be sent at once: it is the server's until it has read it."""
        self._sent.append(stored.slot)
        return LOCATION.pack(stored.slot.start, stored.size)
