"""Find things by their names: import them, and send a function by its name even if a decorator has taken that name."""

from __future__ import annotations

import importlib
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def import_by_name(module: str, path: str) -> Any:
    """Import a module and return what a dotted path names in it.

    Raises:
        ImportError: If there is no such module.
        AttributeError: If it has no such name.
    """
    return operator.attrgetter(path)(importlib.import_module(module))


def importable_name(function: Callable[..., Any]) -> str:
    """Return the qualified name of a module-level function.

    Raises:
        TypeError: If a worker could not find it under that name.
    """
    name: str = getattr(function, "__qualname__", repr(function))
    if "<" in name:
        raise TypeError(f"{name} is local or a lambda: a worker can't find it; define it at the top level of a module")
    return name


def resolve(module: str, qualname: str) -> Callable[..., Any]:
    """Return the plain function behind a name, without the decorator that has taken it."""
    found = import_by_name(module, qualname)
    function: Callable[..., Any] = getattr(found, "__wrapped__", found)
    return function


class Reference:
    """Call a function here; unpickled elsewhere it is that function, found by its name.

    ``@pool.task`` puts a wrapper under the function's name, and pickle refuses a function that is not what its name
    stands for. The reference goes around that.

    Args:
        function: A module-level function.

    Raises:
        TypeError: If it has no name in a module by which a worker could find it.
    """

    __slots__ = ("__name__", "__qualname__", "__wrapped__")

    def __init__(self, function: Callable[..., Any]) -> None:
        function = getattr(function, "__wrapped__", function) if isinstance(function, Reference) else function
        qualname = importable_name(function)
        self.__wrapped__: Callable[..., Any] = function
        self.__name__: str = function.__name__
        self.__qualname__: str = qualname

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function in this process."""
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> tuple[object, ...]:
        return (resolve, (self.__wrapped__.__module__, self.__qualname__))
