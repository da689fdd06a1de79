"""What a function is called, for people and for statistics."""

from __future__ import annotations

from types import FunctionType

from lifepool.wording import class_name


def name_of(fn: object) -> str:
    """A function's qualified name; for a partial, that of the function inside."""
    if type(fn) is FunctionType:
        return fn.__qualname__
    try:
        inner = getattr(fn, "func", fn)
        name = getattr(inner, "__qualname__", None)
    except Exception:  # an object of somebody's own
        return class_name(fn)
    return name if name and type(name) is str else class_name(inner)


def task_name(fn: object, args: tuple[object, ...]) -> str:
    """What a task is called, for people: a chunk of ``map`` or ``gather`` by the function that is mapped."""
    name = name_of(fn)
    if name == "run_chunk" and args and getattr(fn, "__module__", None) == "lifepool.chunks":
        return name_of(args[0])
    return name
