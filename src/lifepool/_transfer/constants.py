"""Send arguments that stay the same for many calls once to each worker, and pickle them once.

In the server ``constant(value)`` wraps a value. Pickled for a worker of the local backend, the wrapper is a short
reference, and whoever pickles learns which constants the worker must have; pickled by anybody else, it is the value
itself. In the worker the reference is unpickled to the value.
"""

from __future__ import annotations

import itertools
import pickle
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_numbers = itertools.count(1)
#: Whether this process has ever made one: as long as it has not, nobody needs to look for them.
in_use = False


class Constant:
    """A value that travels by reference.

    Attributes:
        number: Its number, unique in this process.
        value: What tasks get.
    """

    __slots__ = ("__weakref__", "_pickled", "number", "value")

    def __init__(self, value: Any) -> None:
        global in_use
        in_use = True
        self.number = next(_numbers)
        self.value = value
        self._pickled: bytes | None = None

    def __repr__(self) -> str:
        return f"<constant {type(self.value).__qualname__}>"

    def pickled(self) -> bytes:
        """Return the value, pickled at the first call: later changes of it are not sent."""
        if self._pickled is None:
            with collected(into=None):
                self._pickled = pickle.dumps(self.value, 5)
        return self._pickled

    def __reduce__(self) -> tuple[object, ...]:
        needed: dict[int, Constant] | None = getattr(_collecting, "needed", None)
        if needed is None:
            return (_itself, (self.value,))
        needed[self.number] = self
        return (_received, (self.number,))


def constant(value: T) -> T:
    """Wrap an argument that is large and the same for many calls: it is pickled once and sent to each worker once.

    Pass what this returns as an argument of a task, or bind it with ``functools.partial``; the function gets the plain
    value. (That is why its type is the value's.) In a worker it is one object for all tasks that are passed it: they
    must not change it. It is forgotten there some time after the wrapper was dropped here.

    Args:
        value: Anything that can be pickled. What it is when it is first sent is what workers have.
    """
    return cast("T", Constant(value))


def plain(argument: Any) -> Any:
    """Return the argument, with a constant or those that a partial has bound replaced by their values."""
    if type(argument) is Constant:
        return argument.value
    if type(argument) is partial:
        keywords = {name: plain(value) for name, value in argument.keywords.items()}
        return partial(plain(argument.func), *map(plain, argument.args), **keywords)
    return argument


# -- the server's side: who is needed ------------------------------------------------------------------------------

_collecting = threading.local()  # another thread may be pickling for an executor's process, which has none of them


@contextmanager
def collected(into: dict[int, Constant] | None) -> Iterator[None]:
    """Have constants that are pickled meanwhile become references, and note them by their numbers.

    Args:
        into: Where; None has them pickled as the values they are.
    """
    before = getattr(_collecting, "needed", None)
    _collecting.needed = into
    try:
        yield
    finally:
        _collecting.needed = before


def _itself(value: T) -> T:
    return value


# -- the worker's side: who is here --------------------------------------------------------------------------------

_arrived: dict[int, bytes] = {}
_values: dict[int, Any] = {}


def receive(number: int, pickled: bytes) -> None:
    """Take a constant that was sent. It is unpickled when a task first needs it: an error in that is the task's."""
    _arrived[number] = pickled


def forget(number: int) -> None:
    """Drop a constant that the server has dropped."""
    _arrived.pop(number, None)
    _values.pop(number, None)


def _received(number: int) -> Any:
    if number in _values:
        return _values[number]
    value = _values[number] = pickle.loads(_arrived[number])
    del _arrived[number]
    return value
