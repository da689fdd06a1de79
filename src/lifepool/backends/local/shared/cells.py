"""Small tasks through shared memory: a few cells a worker, written by the server, read by the worker.

A task's ticket (see ``worker/task_loop.py``) wakes the worker anyway. With the task itself lying in memory that both
have mapped, that one system call is all: nothing has to be written to the wire and read from it. A cell is taken from
when the task is sent until it is answered, or provably not started: then nobody can read it any more.

What is larger than a cell, or finds none free, goes over the wire.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Protocol

from lifepool.backends.local.shared.files import create

#: A ticket: the task's number, its cell, the kind of its frame, the bytes of the function and of all.
TICKET = struct.Struct("<QHHHH")
#: Instead of a cell: the task is on the wire.
ON_WIRE = 0xFFFF

#: On the control pipe: the number of the task that is to be interrupted.
NUMBER = struct.Struct("<Q")

#: Bytes of a cell. Calls of plain values have a hundred; longer texts gain nothing that would show.
CELL_BYTES = 2048
#: As many as a worker can hold tasks, and one for a task that was settled and still runs.
CELLS = 9


class PickledCall(Protocol):
    """A call as bytes: the function, then its arguments."""

    function: bytes
    arguments: bytes


class Cells:
    """The server's side.

    Raises:
        OSError: If the system does not allow it.
    """

    def __init__(self) -> None:
        size = CELLS * CELL_BYTES
        self.reading_fd: int
        fd, self.reading_fd = create(size)
        try:
            os.pwrite(fd, bytes(size), 0)  # so that it has memory: a store into a map can't report that there is none
            self._memory = mmap.mmap(fd, size)
        except BaseException:
            os.close(self.reading_fd)
            raise
        finally:
            os.close(fd)
        self._free = list(range(CELLS))
        self._taken: dict[int, int] = {}  # cells by task

    def put(self, task: int, kind: int, call: PickledCall) -> bytes | None:
        """Put a task into a free cell; return its ticket, or None if there is no cell or it does not fit."""
        function = call.function
        data = function + call.arguments
        size = len(data)
        if size > CELL_BYTES or not self._free:
            return None
        cell = self._taken[task] = self._free.pop()
        start = cell * CELL_BYTES
        self._memory[start : start + size] = data
        return TICKET.pack(task, cell, kind, len(function), size)

    def release(self, task: int) -> None:
        """Free the cell of a task that nobody will read any more: it was answered, or taken back."""
        cell = self._taken.pop(task, None)
        if cell is not None:
            self._free.append(cell)

    def close(self) -> None:
        """Let go of the memory; may be called twice."""
        self._memory.close()
        self.handed_over()

    def handed_over(self) -> None:
        """Close our copy of the descriptor that the worker has now."""
        if self.reading_fd >= 0:
            fd, self.reading_fd = self.reading_fd, -1
            os.close(fd)


def mapped(fd: int) -> memoryview:
    """Map the cells for reading, one after the other: the worker's side."""
    try:
        return memoryview(mmap.mmap(fd, CELLS * CELL_BYTES, prot=mmap.PROT_READ))
    finally:
        os.close(fd)
