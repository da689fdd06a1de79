"""How a pickle becomes bytes, small or big: small ones as they are, big ones written straight into shared memory.

A ``pickle.Pickler`` hands large ``bytes``, ``bytearray`` and protocol-5 buffers (numpy arrays, arrow tables) to its
file's ``write`` as they are, without a copy of its own. With ``Sink`` as that file the only copy is the one into shared
memory; that is why such buffers are kept in the stream rather than passed out of band, which would save nothing.
"""

from __future__ import annotations

import contextlib
import pickle
from itertools import islice
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol

from lifepool._usercode.interrupts import is_from_signal
from lifepool.backends.local.codec.out_of_band import dump_out_of_band, write_out_of_band, write_with_texts
from lifepool.backends.local.shared.copying import keep_memory
from lifepool.backends.local.shared.store import NoRoom, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lifepool._core.allocator import Slot
    from lifepool.backends.local.shared.store import Store

PROTOCOL = 5

#: From this many bytes on shared memory is faster than the socket (experiments/big_payloads.py).
BIG_BYTES = 64 * 1024

#: Added to an estimate: what a pickle has beyond the data that was seen.
_SLACK_BYTES = 4096
#: First items of a container, and levels of containers, that an estimate looks at: enough for a chunk of ``map``.
_ITEMS_SEEN = 8
_LEVELS_SEEN = 3

_COMMON = frozenset({int, float, bool, NoneType, tuple, list, dict})
_SIZED = frozenset({bytes, bytearray, str})


class TooLarge(Exception):
    """The pickle is above the limit; ``size`` is what it has at least."""

    def __init__(self, size: int) -> None:
        self.size = size


class StoreOwner(Protocol):
    """Has a store, or has it no more.

    Attributes:
        expects_big: Something big came lately that did not look it: the next is looked at more closely.
    """

    expects_big: bool

    def store(self) -> Store | None:
        """Return where to write the next pickle."""


class Writer(Protocol):
    """What a ``Sink`` writes to: a store, or a part of one."""

    def reserve(self, size: int) -> Slot:
        """Take a slot."""

    def grow(self, slot: Slot, used: int, size: int) -> Slot:
        """Make room for ``size`` bytes, of which ``used`` are written."""

    def write(self, offset: int, data: Any) -> None:
        """Copy ``data`` to ``offset``."""


def dump(
    value: object, parts: tuple[object, ...], owner: StoreOwner | None, limit: int, size: int | None = None
) -> bytes | Stored:
    """Pickle a value: into shared memory if it is big, else, or if there is no room, as bytes.

    Args:
        value: What to pickle.
        parts: What it consists of: a glance at these tells whether it looks big.
        owner: Where big pickles go.
        limit: Bytes above which it is refused.
        size: What the glance estimated, if it was made already.

    Raises:
        TooLarge: If it is above the limit. Writing stops there.
        Exception: Whatever pickling raises.
    """
    if owner is not None and parts:
        if size is None:
            size = glance(parts, owner)
        if size >= BIG_BYTES and (store := owner.store()) is not None:
            with contextlib.suppress(NoRoom):
                return _stream(value, size, store, limit)
    data = pickle.dumps(value, PROTOCOL)
    if len(data) > limit:
        raise TooLarge(len(data))
    if owner is not None and len(data) >= BIG_BYTES and (store := owner.store()) is not None:
        owner.expects_big = True
        with contextlib.suppress(NoRoom):
            return _put(data, store)
    return data


def glance(parts: tuple[object, ...], owner: StoreOwner) -> int:
    """Estimate the bytes of these; on the path of every task, so without a look into containers if possible."""
    if owner.expects_big:
        size = _estimate(parts, _LEVELS_SEEN)
        owner.expects_big = size >= BIG_BYTES
        return size
    size = 0
    for part in parts:
        kind = type(part)
        if kind in _SIZED:
            size += len(part)  # type: ignore[arg-type]
        elif kind not in _COMMON:
            size += _estimate_of(part, 0)
    return size


def pickle_into(writer: Writer, value: object, limit: int, *, out_of_band: bool = False) -> int:
    """Pickle into a slot that is there already, with buffers in the pickle or out of band; the bytes written.

    Raises:
        TooLarge: If it is above the limit.
        NoRoom: If the slot is too small, or there is no memory for it.
    """
    sink = Sink(writer, 0, limit)
    _write(sink, value, out_of_band=out_of_band)
    return sink.size


def _write(sink: Sink, value: object, *, out_of_band: bool) -> None:
    if out_of_band:
        write_out_of_band(sink, value, PROTOCOL)
    else:
        write_with_texts(sink, value, PROTOCOL)


def store_out_of_band(value: object, size: int, owner: StoreOwner | None, limit: int) -> bytes | Stored:
    """Pickle a value with its buffers out of band: into shared memory, else as bytes.

    Args:
        value: What to pickle.
        size: About how many bytes it has.
        owner: Where it goes.
        limit: Bytes above which it is refused.

    Raises:
        TooLarge: If it is above the limit.
        Exception: Whatever pickling raises.
    """
    if owner is not None and (store := owner.store()) is not None:
        with contextlib.suppress(NoRoom):
            return _stream(value, size, store, limit, out_of_band=True)
    data = dump_out_of_band(value, PROTOCOL)
    if len(data) > limit:
        raise TooLarge(len(data))
    return data


def _stream(value: object, size: int, store: Store, limit: int, *, out_of_band: bool = False) -> Stored:
    keep_memory(min(size, limit))
    sink = Sink(store, min(size, limit) + _SLACK_BYTES, limit)
    try:
        _write(sink, value, out_of_band=out_of_band)
    except BaseException:
        store.discard(sink.slot)
        raise
    return _finished(sink, store)


def _put(data: bytes, store: Store) -> Stored:
    sink = Sink(store, len(data), len(data))
    try:
        sink.write(data)
    except NoRoom:
        store.discard(sink.slot)
        raise
    return _finished(sink, store)


def _finished(sink: Sink, store: Store) -> Stored:
    """Return what was written, in a slot no larger than it needs to be."""
    store.arena.shrink(sink.slot, sink.size)
    return Stored(sink.slot, sink.size)


def _estimate(parts: Iterable[Any], levels: int) -> int:
    return sum([len(part) if type(part) in _SIZED else _estimate_of(part, levels - 1) for part in parts])


def _estimate_of(value: Any, levels: int) -> int:
    """Estimate the bytes of a value; 0 for what can't be estimated without walking through it."""
    try:
        if isinstance(value, (list, tuple)):
            return _estimate(value[:_ITEMS_SEEN], levels) if levels else 0
        if isinstance(value, dict):
            return _estimate(islice(value.values(), _ITEMS_SEEN), levels) if levels else 0
        size = getattr(value, "nbytes", None)  # numpy, arrow, and what behaves like them
        if type(size) is int:
            return size
        return _estimate(islice(vars(value).values(), _ITEMS_SEEN), levels) if levels else 0
    except BaseException as error:  # somebody's own class, and only an estimate
        if is_from_signal(error):
            raise
        return 0


class Sink:
    """A file that writes into one slot, which grows as needed.

    Args:
        writer: Where to write.
        estimate: Bytes to begin with.
        limit: Bytes above which writing stops.

    Attributes:
        size: Bytes written so far; may be set back, to write from there on anew.
        slot: Where.

    Raises:
        NoRoom: If there is no slot of that size.
    """

    __slots__ = ("_limit", "_writer", "size", "slot")

    def __init__(self, writer: Writer, estimate: int, limit: int) -> None:
        self._writer = writer
        self._limit = limit
        self.slot: Slot = writer.reserve(estimate)
        self.size: int = 0

    def write(self, data: Any) -> int:
        """Append; what a ``pickle.Pickler`` calls.

        Raises:
            TooLarge: If it would be above the limit.
            NoRoom: If there is no room for it.
        """
        if type(data) is pickle.PickleBuffer:
            data = data.raw()
        count = len(data)
        size = self.size + count
        if size > self._limit:
            raise TooLarge(size)
        slot = self.slot
        if slot.start + size > slot.end:
            slot = self.slot = self._writer.grow(slot, self.size, size)
        self._writer.write(slot.start + self.size, data)
        self.size = size
        return count
