"""Pickles with their buffers beside them, for ``copy=False``: what is unpickled has views of the buffers, no copies.

A block is the pickle, then each buffer, then a table of where they are, then the table's length. Buffers begin at
multiples of 64 bytes, as vectorised code likes them; the block itself begins at a page.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lifepool.backends.local.codec.sink import Sink

_SPAN = struct.Struct("<QQ")  # offset and length in bytes
_COUNT = struct.Struct("<Q")
_ALIGNMENT = 64


def write_apart(sink: Sink | io.BytesIO, value: object, protocol: int) -> None:
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


def dump_apart(value: object, protocol: int) -> bytes:
    """A block as bytes."""
    file = io.BytesIO()
    write_apart(file, value, protocol)
    return file.getvalue()


def load_apart(block: memoryview) -> Any:
    """What was written. It keeps views of ``block``, which are as read-only as that is."""
    end = len(block) - _COUNT.size
    (count,) = _COUNT.unpack(block[end:])
    spans = list(_SPAN.iter_unpack(block[end - count * _SPAN.size : end]))
    pickled, *buffers = (block[start : start + length] for start, length in spans)
    return pickle.loads(pickled, buffers=buffers)
