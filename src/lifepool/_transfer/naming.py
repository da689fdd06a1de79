"""Decide what a task is called: here, once, when it is submitted.

Everything that names a task (hooks and what is made of them, ``workers()``, ``top``, log lines) shows the name of the
user's function. Run times are learned under a second name, which is the same one except for many calls in one task.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import Any

from lifepool._usercode.display import class_name


class ManyCalls:
    """Call the user's function with each of many items, as one task; that is called what the function is called.

    Args:
        function: The user's.
        count: Items there are.

    Attributes:
        learned_as: Where its run time is remembered. A chunk of one item takes as long as a call, so it is the
            function's name; a larger one would spoil what is known of single calls, and is remembered with chunks of
            about its size (up to the next power of two).
    """

    __slots__ = ("__qualname__", "function", "learned_as")

    def __init__(self, function: Any, count: int = 1) -> None:
        self.function: Any = function
        self.__qualname__: str = name_of(function)
        self.learned_as: str = (
            self.__qualname__ if count <= 1 else f"{self.__qualname__} x{1 << (count - 1).bit_length()}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.function,))


def name_of(fn: object) -> str:
    """Return a function's qualified name; of a partial, that of the function inside; of an object, its class's."""
    if type(fn) is FunctionType:
        return fn.__qualname__
    while isinstance(fn, partial):
        fn = fn.func
    for attribute in ("__qualname__", "__name__"):
        try:
            name = getattr(fn, attribute, None)
        except Exception:  # the user's own __getattr__: a name is not worth a task
            name = None
        if type(name) is str and name:
            return name
    return class_name(fn)


def names_of(fn: object) -> tuple[str, str]:
    """Return what a task of this function is called, and under which name its run time is learned."""
    if type(fn) is FunctionType:  # nearly always, and on the way of every task
        return fn.__qualname__, fn.__qualname__
    name = name_of(fn)
    return (name, fn.learned_as) if isinstance(fn, ManyCalls) else (name, name)
