"""Pickles with their buffers beside them: large texts, and for ``copy=False`` all, of which tasks then have views.

A block is the pickle, then each buffer, then a table of where they are, then the table's length. Buffers begin at
multiples of 64 bytes, as vectorised code likes them; the block itself begins at a page.

A pickle without such buffers is a block too, for nobody looks for the table then.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import struct
from typing import TYPE_CHECKING, Any, Protocol

from lifepool.backends.local.codec.large_text import LargeText, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPAN = struct.Struct("<QQ")  # offset and length in bytes
_COUNT = struct.Struct("<Q")
_ALIGNMENT = 64


class Writable(Protocol):
    """A file that knows where it is, as far as a block needs one."""

    size: int

    def write(self, data: Any, /) -> int:
        """Write all of ``data``; return its length."""


def write_with_texts(sink: Writable, value: object, protocol: int) -> None:
    """Write a block in which large texts are beside the pickle, and all else is in it.

    Raises:
        Exception: Whatever pickling raises.
    """
    texts: list[LargeText] = []
    placed: list[pickle.PickleBuffer] = []

    def place(text: LargeText) -> tuple[Any, ...]:
        texts.append(text)
        placed.append(pickle.PickleBuffer(b""))
        return read_text, (placed[-1],)

    pickler = pickle.Pickler(sink, protocol, buffer_callback=lambda buffer: not placed or buffer is not placed[-1])
    pickler.dispatch_table = {**copyreg.dispatch_table, LargeText: place}
    pickler.dump(value)
    if not texts:
        return
    spans = []
    for text in texts:
        start = _aligned(sink)
        text.write_to(sink)
        spans.append((start, sink.size - start))
    _write_table(sink, spans)


def write_out_of_band(sink: Writable, value: object, protocol: int) -> None:
    """Write a block with all buffers beside the pickle.

    Raises:
        Exception: Whatever pickling raises; BufferError for a buffer that is not contiguous.
    """
    buffers: list[pickle.PickleBuffer] = []
    pickle.Pickler(sink, protocol, buffer_callback=buffers.append).dump(value)
    spans = []
    for buffer in buffers:
        raw = buffer.raw()
        spans.append((_aligned(sink), len(raw)))
        sink.write(raw)
    _write_table(sink, spans)


def _aligned(sink: Writable) -> int:
    """Return where the next buffer begins."""
    sink.write(bytes(-sink.size % _ALIGNMENT))
    return sink.size


def _write_table(sink: Writable, spans: list[tuple[int, int]]) -> None:
    sink.write(b"".join(_SPAN.pack(*span) for span in spans) + _COUNT.pack(len(spans)))


class _File(io.BytesIO):
    """A block in memory."""

    @property
    def size(self) -> int:
        return self.tell()

    @size.setter
    def size(self, size: int) -> None:
        self.seek(size)
        self.truncate()


def dump_out_of_band(value: object, protocol: int) -> bytes:
    """Return a block as bytes."""
    file = _File()
    write_out_of_band(file, value, protocol)
    return file.getvalue()


def buffers_of(block: memoryview) -> Iterator[memoryview]:
    """Yield the buffers beside a pickle, if it has some: nothing is looked at before the first is asked for."""
    end = len(block) - _COUNT.size
    (count,) = _COUNT.unpack(block[end:])
    for start, length in _SPAN.iter_unpack(block[end - count * _SPAN.size : end]):
        yield block[start : start + length]


def load_out_of_band(block: memoryview) -> Any:
    """Return what was written. It keeps views of ``block``, which are as read-only as that is."""
    return pickle.loads(block, buffers=buffers_of(block))
