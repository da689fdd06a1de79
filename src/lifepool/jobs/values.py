"""Stored values: JSON where the types allow it, else a pickle, which only a signature makes safe to load.

A value that JSON carries comes back equal and of the same types: beside JSON's own these are ``tuple``, ``set``,
``frozenset``, ``bytes``, dictionaries with any keys, numbers that are not finite, and the dates, ``timedelta``,
``Decimal`` and ``UUID`` of the standard library. Bytes are not put into the text but follow it as they are.

Subclasses are not carried as what they derive from: an ``IntEnum`` is no ``int``. Workers import this module.
"""

from __future__ import annotations

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
Encoding = Literal["J", "P"]

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
        self.type = type(value)


def encode(value: Any, what: str, *, may_pickle: bool) -> tuple[Encoding, bytes]:
    """Encode a value.

    Args:
        value: Anything.
        what: What it is called in an error: ``"args"`` or ``"result"``.
        may_pickle: Whether what JSON can't carry may be pickled: only if it is going to be signed.

    Raises:
        JobNotStorable: Naming the part that can't be.
    """
    try:
        return "J", _encode_json(value, what)
    except NotPlain as error:
        if not may_pickle:
            name = f"{error.type.__module__}.{error.type.__qualname__}".removeprefix("builtins.")
            raise JobNotStorable(error.path, f"JSON can't carry a {name}") from None
    except RecursionError:
        raise JobNotStorable(what, "it is nested too deeply", hint="send it flatter") from None
    return "P", _pickle(value, what)


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
        return _decode_json(memoryview(body))
    except Exception as error:
        raise JobNotCallable(f"the stored value can't be read: {type(error).__name__}: {error}") from error


# -- JSON -----------------------------------------------------------------------------------------------------------


def _encode_json(value: Any, what: str) -> bytes:
    segments: list[bytes] = []
    text = json.dumps(_plain(value, what, segments), separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    head = struct.pack(f">II{len(segments)}Q", len(text), len(segments), *map(len, segments))
    return b"".join((head, text, *segments))


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


def _plain(value: Any, path: str, segments: list[bytes]) -> Any:
    """Return what JSON can carry for it; bytes go to the segments."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int and value.bit_length() <= _MAX_INT_BITS:
        return value
    if kind is float:
        return value if math.isfinite(value) else {_TAG: "float", "v": repr(value)}
    if kind is list:
        return [_plain(each, f"{path}[{index}]", segments) for index, each in enumerate(value)]
    if kind is dict:
        return _plain_dict(value, path, segments)
    if kind is bytes:
        segments.append(value)
        return {_TAG: "bytes", "v": len(segments) - 1}
    return _tagged(value, kind, path, segments)


def _plain_dict(value: dict[Any, Any], path: str, segments: list[bytes]) -> Any:
    if _TAG not in value and all(type(key) is str for key in value):
        return {key: _plain(each, f"{path}[{key!r}]", segments) for key, each in value.items()}
    pairs = [
        [_plain(key, f"{path} key {key!r}", segments), _plain(each, f"{path}[{key!r}]", segments)]
        for key, each in value.items()
    ]
    return {_TAG: "dict", "v": pairs}


def _tagged(value: Any, kind: type, path: str, segments: list[bytes]) -> Any:
    if kind in _TEXT_TYPES:
        name, text, _ = _TEXT_TYPES[kind]
        if kind in (datetime, time) and value.tzinfo is not None and not _is_fixed(value):
            raise NotPlain(path, value.tzinfo)  # a named zone would come back as an offset
        return {_TAG: name, "v": text(value)}
    if kind is timedelta:
        return {_TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}
    if kind in _COLLECTIONS:
        items = [_plain(each, f"{path}[{index}]", segments) for index, each in enumerate(value)]
        if kind is not tuple:  # equal sets are to be stored equally: their order differs between processes
            items.sort(key=lambda item: json.dumps(item, sort_keys=True))
        return {_TAG: _COLLECTIONS[kind], "v": items}
    raise NotPlain(path, value)


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
