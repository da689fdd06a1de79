"""Frames on the wire between the server and a worker: a 24-byte header, then the payload.

======  ====  =========================================================================
offset  size  meaning
======  ====  =========================================================================
0       2     magic ``b"lp"``
2       1     version of this table, 1
3       1     kind, see ``Kind``
4       4     length of the payload in bytes, little-endian
8       8     task number, little-endian (0 where there is none)
16      8     ``extra``: for answers, nanoseconds the function ran; for tasks, the length of the function's part
======  ====  =========================================================================

A reader trusts nothing: a worker runs users' code, which may write anything to any descriptor. What does not start
with the magic, the version and a known kind, or is longer than the limit, is a ``FramingError``: that worker is ended,
and nobody else is affected.

``FrameReader`` reads without copying: it lends a writable buffer (``buffer``), is informed how much was written into it
(``received``), and returns complete frames. A payload larger than the shared buffer gets one of its own, of
exactly its size, so that a large message is neither joined from pieces nor moved.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

HEADER = struct.Struct("<2sBBIQQ")
MAGIC = b"lp"
VERSION = 1

#: One read takes at most this much: several hundred small answers, and a payload beyond it pays one extra read.
BUFFER_BYTES = 64 * 1024
#: The length field's limit.
MAX_FRAME_BYTES = 2**32 - 1


class Kind(IntEnum):
    """What a frame says."""

    TASK = 1  # server to worker: function and arguments
    RESULT = 2  # worker to server: the pickled value
    ERROR = 3  # worker to server: the exception
    READY = 4  # worker to server: start-up is done; ``extra``: thousandths of it in which it used a CPU
    START_FAILED = 5  # worker to server: why it is not
    PROGRESS = 6  # worker to server: how far the running task is
    MEMORY = 7  # worker to server, before an answer: ``extra`` is the worker's resident bytes
    TASK_STORED = 8  # as TASK, but in place of the arguments is where in shared memory they are
    RESULT_STORED = 9  # as RESULT, but in place of the value is where in shared memory it is
    CONSTANT = 10  # server to worker: a pickled constant; ``extra`` is its number
    FORGET = 11  # server to worker: the constant of this number, ``extra``, is not needed any more
    TASK_OUT_OF_BAND = 12  # as TASK, with buffers out-of-band, so that they are not copied
    TASK_VIEWED = 13  # as TASK_OUT_OF_BAND, but in place of the arguments is where in shared memory they are
    RELEASED = 14  # worker to server: nothing of this task's shared memory is in use any more
    LOADING = 15  # worker to server: it imports what this task needs; with ``extra`` 1: it has, and runs the task


_KINDS = frozenset(int(kind) for kind in Kind)


class FramingError(Exception):
    """The bytes are not frames."""


class Frame(NamedTuple):
    """One message. ``payload`` is only valid until the reader gets its next bytes, unless it was copied."""

    kind: int
    task: int
    extra: int
    payload: memoryview


def header(kind: int, length: int, task: int = 0, extra: int = 0) -> bytes:
    """Return the 24 bytes before a payload of ``length`` bytes."""
    return HEADER.pack(MAGIC, VERSION, kind, length, task, extra)


class FrameReader:
    """Turn bytes into frames.

    Args:
        limit: Payloads above this many bytes are refused.
    """

    __slots__ = ("_big", "_big_fill", "_fill", "_head", "_limit", "_small", "_start")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit = limit
        self._small = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0  # unread bytes of the shared buffer are [_start, _fill)
        self._fill = 0
        self._big: memoryview | None = None  # the payload being read that has a buffer of its own
        self._big_fill = 0
        self._head = (0, 0, 0)  # kind, task and extra of that payload

    def buffer(self) -> memoryview:
        """Return the memory that the next bytes are to be written into; it is never empty."""
        if self._big is not None:
            return self._big[self._big_fill :]
        if self._start == self._fill:
            self._start = self._fill = 0
        elif self._start:
            # Only an incomplete frame is left: move it to the front (at most BUFFER_BYTES, once a read).
            left = bytes(self._small[self._start : self._fill])
            self._small[: len(left)] = left
            self._start, self._fill = 0, len(left)
        return self._small[self._fill :]

    def received(self, count: int) -> list[Frame]:
        """Return the frames that are complete, now that ``count`` bytes were written into the buffer.

        Raises:
            FramingError: If the bytes are not frames.
        """
        if self._big is not None:
            self._big_fill += count
            if self._big_fill < len(self._big):
                return []
            frame = Frame(*self._head, self._big)
            self._big = None
            return [frame]
        self._fill += count
        small, start, fill, limit = self._small, self._start, self._fill, self._limit
        frames: list[Frame] = []
        while fill - start >= HEADER.size:
            magic, version, kind, length, task, extra = HEADER.unpack_from(small, start)
            if magic != MAGIC or version != VERSION or kind not in _KINDS:
                raise FramingError(f"expected a frame, got {bytes(small[start : start + 16])!r}")
            if length > limit:
                raise FramingError(f"a frame of {length:,} bytes is above the limit of {limit:,}")
            body = start + HEADER.size
            if body + length > fill:
                if length > BUFFER_BYTES - HEADER.size:
                    self._begin_big(kind, task, extra, length, body)
                    return frames
                break
            start = body + length
            # As Frame(...), without the call of its Python constructor: there is one for each answer.
            frames.append(tuple.__new__(Frame, (kind, task, extra, small[body:start])))
        self._start = start
        return frames

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Return the frames that are complete with these bytes. Payloads are copied, so they stay valid.

        Raises:
            FramingError: If the bytes are not frames.
        """
        frames: list[Frame] = []
        rest = memoryview(data)
        while rest:
            free = self.buffer()
            count = min(len(free), len(rest))
            free[:count] = rest[:count]
            frames += [Frame(f.kind, f.task, f.extra, memoryview(bytes(f.payload))) for f in self.received(count)]
            rest = rest[count:]
        return frames

    def _begin_big(self, kind: int, task: int, extra: int, length: int, body: int) -> None:
        """Give the payload a buffer of its own, and move what is there of it, from offset ``body`` on, into that."""
        self._big = memoryview(bytearray(length))
        self._big_fill = self._fill - body
        self._big[: self._big_fill] = self._small[body : self._fill]
        self._head = (kind, task, extra)
        self._start = self._fill = 0
