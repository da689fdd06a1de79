"""What a function is called, for people and for statistics."""

from __future__ import annotations


def name_of(fn: object) -> str:
    """A function's qualified name; for a partial, that of the function inside."""
    inner = getattr(fn, "func", fn)
    return getattr(inner, "__qualname__", None) or type(inner).__qualname__
