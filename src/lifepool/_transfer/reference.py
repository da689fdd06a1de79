"""A function that travels by its name, also when a decorator has taken that name."""

from __future__ import annotations

import importlib
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def resolve(module: str, qualname: str) -> Callable[..., Any]:
    """Import ``module`` and find the plain function behind ``qualname``."""
    found = operator.attrgetter(qualname)(importlib.import_module(module))
    function: Callable[..., Any] = getattr(found, "__wrapped__", found)
    return function


class Reference:
    """Calls a function here; unpickled elsewhere it is that function, found by its name.

    ``@pool.task`` puts a wrapper in the function's place, and pickle refuses a function that is not what its name
    stands for. The reference goes around that.

    Args:
        function: A module-level function.

    Raises:
        TypeError: If it has no place in a module by which a worker could find it.
    """

    __slots__ = ("__name__", "__qualname__", "__wrapped__")

    def __init__(self, function: Callable[..., Any]) -> None:
        function = getattr(function, "__wrapped__", function) if isinstance(function, Reference) else function
        qualname = getattr(function, "__qualname__", "<")
        if "<" in qualname:
            raise TypeError(
                f"{qualname} is local or a lambda: a worker can't find it; define it at the top level of a module"
            )
        self.__wrapped__: Callable[..., Any] = function
        self.__name__: str = function.__name__
        self.__qualname__: str = qualname

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function in this process."""
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> tuple[object, ...]:
        return (resolve, (self.__wrapped__.__module__, self.__qualname__))
