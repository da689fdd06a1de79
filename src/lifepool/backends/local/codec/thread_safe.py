"""What may be pickled, or unpickled, in another thread while the event loop goes on.

Pickling runs code of the objects that are pickled, and unpickling imports modules and calls what it finds there. Code
that was written for one thread must stay in one: so only built-in types and numpy arrays leave it. Everything else is
pickled and unpickled on the loop, like small things.
"""

from __future__ import annotations

import pickle
import sys
from types import FunctionType, NoneType
from typing import Any

from lifepool._transfer.reference import Reference

#: Parts looked at. What has more is pickled on the loop; most of its time goes into making parts, not into copies.
_MOST_PARTS = 1024

#: A part's header; an array's is the largest, and is there once.
_OVERHEAD_BYTES = 96

#: Functions are pickled by their names.
_SMALL = frozenset({int, float, bool, complex, NoneType, FunctionType, Reference})
_FROZEN_BYTES = frozenset({bytes, str})

#: What a pickle may name to be read threads.
_KNOWN = frozenset(
    {
        ("builtins", "bytearray"),
        ("builtins", "complex"),
        ("builtins", "frozenset"),
        ("builtins", "set"),
        ("array", "array"),
        ("array", "_array_reconstructor"),
        ("lifepool.backends.local.codec.large_text", "read_text"),
        ("lifepool._transfer.grouped", "GroupResult"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    }
)


def plain_size(args: tuple[Any, ...], *, lent: bool) -> int | None:
    """Return at most how many bytes the pickle has, if it may be made off the loop; else None.

    Args:
        args: What is to be pickled.
        lent: Whether their owner leaves them alone meanwhile. If not, only what can't be changed may wait.
    """
    size = seen = 0
    waiting = list(args)
    while waiting:
        value = waiting.pop()
        parts = _parts(value, lent=lent)
        if parts is None:
            return None
        seen += 1 + len(parts)
        if seen > _MOST_PARTS:
            return None
        waiting += parts
        size += _own_size(value)
    return size + _OVERHEAD_BYTES * (seen + 8)


def _parts(value: Any, *, lent: bool) -> list[Any] | tuple[Any, ...] | None:
    """Return what else is to be looked at; None if this is not plain."""
    kind = type(value)
    if kind in _FROZEN_BYTES or kind in _SMALL:
        return ()
    if kind is tuple:
        return value if len(value) <= _MOST_PARTS else None
    if not lent:
        return None
    if kind is list:
        return value if len(value) <= _MOST_PARTS else None
    if kind is dict:
        return [*value.keys(), *value.values()] if len(value) <= _MOST_PARTS else None
    return () if kind is bytearray or kind is pickle.PickleBuffer or _is_numeric_array(value) else None


def _is_numeric_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject


def _own_size(value: Any) -> int:
    kind = type(value)
    if kind is str:
        return len(value) if value.isascii() else 4 * len(value)
    if kind is bytes or kind is bytearray:
        return len(value)
    if kind is pickle.PickleBuffer:
        return memoryview(value).nbytes
    size: int = getattr(value, "nbytes", 0)
    return size


class PlainUnpickler(pickle.Unpickler):
    """Reads what is plain, and refuses the rest before any of its code has run."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names.

        Raises:
            UnpicklingError: If that is not known to be harmless.
        """
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} is for the event loop")
        return super().find_class(module, name)
