"""Stored values: JSON where the types allow it, else a pickle, which only a signature makes safe to load.

A value that JSON carries comes back equal and of the same types: beside JSON's own these are ``tuple``, ``set``,
``frozenset``, ``bytes``, dictionaries with any keys, numbers that are not finite, and the dates, ``timedelta``,
``Decimal`` and ``UUID`` of the standard library. Subclasses are not carried as what they derive from: an ``IntEnum`` is
no ``int``.

The encodings: ``B`` is ``bytes``, as they are. ``T`` is JSON text alone: the value has none but JSON's own types, so
the text is also what an HTTP client gets. ``J`` is JSON text in which other types are objects with a ``"$"``; the bytes
of ``bytes`` follow it as they are. ``P`` is a pickle.

Workers import this module: keep it light.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from lifepool.jobs.errors import JobNotCallable, JobNotStorable

if TYPE_CHECKING:
    from collections.abc import Callable

#: How a value is stored.
Encoding = Literal["B", "T", "J", "P"]
ENCODINGS: frozenset[Encoding] = frozenset({"B", "T", "J", "P"})

_TAG = "$"
#: Python refuses to parse longer integers from text (4,300 digits); these are pickled.
_MAX_INT_BITS = 14_000
_TEXT_TYPES: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    Decimal: ("decimal", str, Decimal),
    UUID: ("uuid", str, UUID),
}
_FROM_TEXT = {name: parse for name, _, parse in _TEXT_TYPES.values()}
_COLLECTIONS: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}
_FROM_LIST: dict[str, Callable[[Any], Any]] = {name: cls for cls, name in _COLLECTIONS.items()}


class NotPlain(Exception):
    """JSON can't carry this part."""

    def __init__(self, path: str, value: object) -> None:
        super().__init__(path)
        self.path = path
        self.type: type[object] = type(value)


def encode(value: Any, what: str, *, may_pickle: bool) -> tuple[Encoding, bytes]:
    """Encode a value.

    Args:
        value: Anything.
        what: What it is called in an error: ``"args"`` or ``"result"``.
        may_pickle: Whether what JSON can't carry may be pickled: only if it is going to be signed.

    Raises:
        JobNotStorable: Naming the part that can't be.
    """
    if type(value) is bytes:
        return "B", value
    try:
        return _Encoder().encode(value, what)
    except NotPlain as error:
        if not may_pickle:
            name = f"{error.type.__module__}.{error.type.__qualname__}".removeprefix("builtins.")
            raise JobNotStorable(error.path, f"JSON can't carry a {name}") from None
    except RecursionError:
        raise JobNotStorable(what, "it is nested too deeply", hint="send it flatter") from None
    return "P", _pickle(value, what)


def digest(value: Any, what: str, *, may_pickle: bool) -> bytes:
    """Return a digest that equal values share, whatever the order in which their dictionaries were filled.

    Raises:
        JobNotStorable: As ``encode``.
    """
    try:
        encoding, body = _Encoder(for_digest=True).encode(value, what)
    except NotPlain:
        encoding, body = encode(value, what, may_pickle=may_pickle)
    return hashlib.sha256(encoding.encode() + body).digest()


def _pickle(value: Any, what: str) -> bytes:
    import pickle

    try:
        return pickle.dumps(value, 5)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        hint = "send plain data (text, numbers, bytes, dataclasses)"
        raise JobNotStorable(what, f"it can't be pickled: {reason}", hint=hint) from error


def decode(encoding: str, body: bytes | memoryview) -> Any:
    """Decode what ``encode`` made.

    Raises:
        JobNotCallable: If it can't be read here: a class is gone, or the data is invalid.
    """
    try:
        if encoding == "P":
            import pickle

            return pickle.loads(body)
        if encoding == "B":
            return bytes(body)
        if encoding == "T":
            return json.loads(bytes(body))
        return _decode_json(memoryview(body))
    except Exception as error:
        raise JobNotCallable(f"the stored value can't be read: {type(error).__name__}: {error}") from error


# -- JSON -----------------------------------------------------------------------------------------------------------


def _decode_json(body: memoryview) -> Any:
    length, count = struct.unpack_from(">II", body)
    sizes = struct.unpack_from(f">{count}Q", body, 8)
    at = 8 + 8 * count
    text = bytes(body[at : at + length])
    at += length
    segments = []
    for size in sizes:
        segments.append(bytes(body[at : at + size]))
        at += size
    if at != len(body):
        raise ValueError(f"{len(body)} bytes where {at} were expected")
    return _rebuilt(json.loads(text), segments)


class _Encoder:
    """Encodes one value.

    Args:
        for_digest: Whether equal values are to be encoded equally, in whatever order their dictionaries and sets have
            what is in them. That can't be decoded.
    """

    def __init__(self, *, for_digest: bool = False) -> None:
        self._for_digest = for_digest
        self._segments: list[bytes] = []
        self._is_typed = False

    def encode(self, value: Any, what: str) -> tuple[Encoding, bytes]:
        """Encode it.

        Raises:
            NotPlain: If JSON can't carry a part.
        """
        text = json.dumps(self._plain(value, what), separators=(",", ":"), allow_nan=False).encode()
        if not self._is_typed:
            return "T", text
        segments = self._segments
        head = struct.pack(f">II{len(segments)}Q", len(text), len(segments), *map(len, segments))
        return "J", b"".join((head, text, *segments))

    def _plain(self, value: Any, path: str) -> Any:
        """Return what JSON can carry for it; bytes go to the segments."""
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int and value.bit_length() <= _MAX_INT_BITS:
            return value
        if kind is float:
            return value if math.isfinite(value) else self._tagged("float", repr(value))
        if kind is list:
            return [self._plain(each, f"{path}[{index}]") for index, each in enumerate(value)]
        if kind is dict:
            return self._plain_dict(value, path)
        if kind is bytes:
            return self._tagged("bytes", self._segment_of(value))
        return self._typed(value, kind, path)

    def _segment_of(self, value: bytes) -> int | str:
        if self._for_digest:  # a number would depend on the order in which they come
            return hashlib.sha256(value).hexdigest()
        self._segments.append(value)
        return len(self._segments) - 1

    def _plain_dict(self, value: dict[Any, Any], path: str) -> Any:
        if _TAG not in value and all(type(key) is str for key in value):
            keys = sorted(value) if self._for_digest else value
            return {key: self._plain(value[key], f"{path}[{key!r}]") for key in keys}
        pairs = [(self._plain(key, f"{path} key {key!r}"), key) for key in value]
        if self._for_digest:
            pairs.sort(key=lambda pair: _text_of(pair[0]))
        return self._tagged("dict", [[plain, self._plain(value[key], f"{path}[{key!r}]")] for plain, key in pairs])

    def _typed(self, value: Any, kind: type, path: str) -> Any:
        if kind in _TEXT_TYPES:
            name, text, _ = _TEXT_TYPES[kind]
            if kind in (datetime, time) and value.tzinfo is not None and not _is_fixed(value):
                raise NotPlain(path, value.tzinfo)  # a named zone would come back as an offset
            return self._tagged(name, text(value))
        if kind is timedelta:
            return self._tagged("timedelta", [value.days, value.seconds, value.microseconds])
        if kind in _COLLECTIONS:
            items = [self._plain(each, f"{path}[{index}]") for index, each in enumerate(value)]
            if self._for_digest and kind is not tuple:  # the order of a set differs between processes
                items.sort(key=_text_of)
            return self._tagged(_COLLECTIONS[kind], items)
        raise NotPlain(path, value)

    def _tagged(self, name: str, value: Any) -> dict[str, Any]:
        self._is_typed = True
        return {_TAG: name, "v": value}


def _text_of(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True)


def _is_fixed(value: datetime | time) -> bool:
    from datetime import timezone

    return type(value.tzinfo) is timezone


def _rebuilt(value: Any, segments: list[bytes]) -> Any:
    if type(value) is list:
        return [_rebuilt(each, segments) for each in value]
    if type(value) is not dict:
        return value
    if _TAG not in value:
        return {key: _rebuilt(each, segments) for key, each in value.items()}
    name, inner = value[_TAG], value["v"]
    if name == "bytes":
        return segments[inner]
    if name == "float":
        return float(inner)
    if name == "timedelta":
        return timedelta(*inner)
    if name == "dict":
        return {_rebuilt(key, segments): _rebuilt(each, segments) for key, each in inner}
    if name in _FROM_LIST:
        return _FROM_LIST[name](_rebuilt(each, segments) for each in inner)
    return _FROM_TEXT[name](inner)
