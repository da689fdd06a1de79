"""What a function is called, for people and for statistics."""

from __future__ import annotations

from types import FunctionType


def name_of(fn: object) -> str:
    """A function's qualified name; for a partial, that of the function inside."""
    if type(fn) is FunctionType:
        return fn.__qualname__
    inner = getattr(fn, "func", fn)
    return getattr(inner, "__qualname__", None) or type(inner).__qualname__


def task_name(fn: object, args: tuple[object, ...]) -> str:
    """What a task is called, for people: a chunk of ``map`` or ``gather`` by the function that is mapped."""
    name = name_of(fn)
    if name == "run_chunk" and args and getattr(fn, "__module__", None) == "lifepool.chunks":
        return name_of(args[0])
    return name
