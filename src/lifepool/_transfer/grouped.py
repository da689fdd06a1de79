"""Many calls as one task: the functions that travel for ``map``, ``gather`` and ``@pool.batch``, and their one result.

All of this runs in workers. How large a group is and when it leaves is decided in ``_bulk`` and ``_batching``.
"""

from __future__ import annotations

import time
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool._transfer.context import with_own_decimals
from lifepool._transfer.exceptions import encode_error, is_of_runner
from lifepool._transfer.naming import ManyCalls
from lifepool._transfer.reference import Reference, resolve
from lifepool.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NOT_RESULTS = (str, bytes, bytearray, dict, set, frozenset)


class GroupResult(NamedTuple):
    """What many calls in one task give back.

    Attributes:
        values: One for each item that was run; None where it has an error.
        errors: Encoded exceptions by index.
        run_s: Seconds for all, where they are measured.
        failure: The encoded exception of the whole, if there are no values.
    """

    values: list[Any]
    errors: dict[int, bytes]
    run_s: float = 0.0
    failure: bytes | None = None


# -- map and gather: a function of one item ------------------------------------------------------------------------


class Chunk(ManyCalls):
    """A function to be called with each item of a chunk."""

    __slots__ = ()

    def __call__(self, items: Sequence[Any], go_on: bool) -> GroupResult:
        """Call it. Runs in a worker; see ``run_chunk``."""
        return run_chunk(self.function, items, go_on)


def run_chunk(fn: Callable[[Any], Any], items: Sequence[Any], go_on: bool) -> GroupResult:
    """Call ``fn`` with each item, each time in a copy of the context. Runs in a worker.

    Args:
        fn: The user's function.
        items: Its arguments.
        go_on: Whether to go on after an exception.
    """
    values: list[Any] = []
    errors: dict[int, bytes] = {}
    started = time.perf_counter()
    add, rest, alone = values.append, iter(items), with_own_decimals(fn)
    while len(values) < len(items):
        try:
            # Not values.extend(map(fn, rest)): a StopIteration of the function would end that without a word.
            for item in rest:
                add(copy_context().run(alone, item))
        except BaseException as error:
            if is_of_runner(error):
                raise
            errors[len(values)] = encode_error(error)
            add(None)
            if not go_on:
                break
    return GroupResult(values, errors, time.perf_counter() - started)


# -- batches: a function of a list ---------------------------------------------------------------------------------


class BatchFunction(Reference):
    """Travels as a reference to the user's function, and calls it with a list of items.

    Args:
        function: A module-level function from a list to as many results.
    """

    __slots__ = ()

    def __call__(self, items: Sequence[Any], split: bool) -> GroupResult:
        """Call it. Runs in a worker.

        Args:
            items: What the callers gave.
            split: Whether, if the function raises, each item is tried by itself.
        """
        return run_batch(self.__wrapped__, items, split)

    def __reduce__(self) -> tuple[object, ...]:
        return (_find, (self.__wrapped__.__module__, self.__qualname__))


def _find(module: str, qualname: str) -> BatchFunction:
    return BatchFunction(resolve(module, qualname))


def run_batch(fn: Callable[[list[Any]], Any], items: Sequence[Any], split: bool) -> GroupResult:
    """Call ``fn`` with all items or, if that raises and ``split``, with one after the other. Runs in a worker."""
    try:
        values = copy_context().run(with_own_decimals(_results), fn, list(items))
    except BaseException as error:
        if is_of_runner(error):
            raise
        if type(error) is _Unusable:
            return GroupResult([], {}, failure=encode_error(error.as_task_error()))
        if not split or len(items) == 1:
            return GroupResult([], {}, failure=encode_error(error))
        alone = with_own_decimals(_alone)
        values = [copy_context().run(alone, fn, item) for item in items]
    errors = {
        index: encode_error(value) for index, value in enumerate(values) if issubclass(type(value), BaseException)
    }
    for index in errors:
        values[index] = None
    return GroupResult(values, errors)


def _alone(fn: Callable[[list[Any]], Any], item: Any) -> Any:
    """Return the item's result, or what it raised."""
    try:
        return _results(fn, [item])[0]
    except _Unusable as error:
        return error.as_task_error()
    except BaseException as error:
        if is_of_runner(error):
            raise
        return error


class _Unusable(Exception):
    """What the function returned can't be handed out; to try it by items would be of no use."""

    def as_task_error(self) -> TaskError:
        return TaskError(str(self), hint="return a list with one result for each item, in their order")


def _results(fn: Callable[[list[Any]], Any], items: list[Any]) -> list[Any]:
    """Return the function's results as a list; raise ``_Unusable`` if they are not one for each item."""
    returned = fn(items)
    if type(returned) is CoroutineType:
        returned.close()  # else Python warns that it was never awaited
    name = getattr(fn, "__qualname__", repr(fn))
    count = len(items)
    if isinstance(returned, _NOT_RESULTS) or not hasattr(returned, "__iter__"):
        raise _Unusable(f"{name} returned a {type(returned).__qualname__} for a list of {count} items")
    values = list(returned)
    if len(values) != count:
        raise _Unusable(f"{name} returned {len(values)} results for {count} items")
    return values
