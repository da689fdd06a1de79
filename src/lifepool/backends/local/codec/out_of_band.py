"""Pickles with their buffers beside them, for ``copy=False``: what is unpickled has views of the buffers, no copies.

A block is the pickle, then each buffer, then a table of where they are, then the table's length. Buffers begin at
multiples of 64 bytes, as vectorised code likes them; the block itself begins at a page.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any, Protocol

_SPAN = struct.Struct("<QQ")  # offset and length in bytes
_COUNT = struct.Struct("<Q")
_ALIGNMENT = 64


class Writable(Protocol):
    """A file that knows where it is, as far as a block needs one."""

    def write(self, data: Any, /) -> int:
        """Write all of ``data``; return its length."""

    def tell(self) -> int:
        """Return the bytes written so far."""


def write_out_of_band(sink: Writable, value: object, protocol: int) -> None:
    """Write a block.

    Raises:
        Exception: Whatever pickling raises; BufferError for a buffer that is not contiguous.
    """
    buffers: list[pickle.PickleBuffer] = []
    pickle.Pickler(sink, protocol, buffer_callback=buffers.append).dump(value)
    at = sink.tell()
    spans = [(0, at)]
    for buffer in buffers:
        raw = buffer.raw()
        at += sink.write(bytes(-at % _ALIGNMENT))
        spans.append((at, len(raw)))
        at += sink.write(raw)
    sink.write(b"".join(_SPAN.pack(*span) for span in spans) + _COUNT.pack(len(spans)))


def dump_out_of_band(value: object, protocol: int) -> bytes:
    """Return a block as bytes."""
    file = io.BytesIO()
    write_out_of_band(file, value, protocol)
    return file.getvalue()


def load_out_of_band(block: memoryview) -> Any:
    """Return what was written. It keeps views of ``block``, which are as read-only as that is."""
    end = len(block) - _COUNT.size
    (count,) = _COUNT.unpack(block[end:])
    spans = list(_SPAN.iter_unpack(block[end - count * _SPAN.size : end]))
    pickled, *buffers = (block[start : start + length] for start, length in spans)
    return pickle.loads(pickled, buffers=buffers)
