"""Many calls in one list: what runs in the worker for ``@pool.batch``."""

from __future__ import annotations

from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool._transfer.context import with_own_decimals
from lifepool._transfer.exceptions import encode_error, is_of_runner
from lifepool._transfer.reference import Reference, resolve
from lifepool.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NOT_RESULTS = (str, bytes, bytearray, dict, set, frozenset)


class BatchResult(NamedTuple):
    """What a batch gives back.

    Attributes:
        values: One for each item; None where it has an error.
        errors: Carried exceptions by index.
        failure: The carried exception of the whole, if there are no values.
    """

    values: list[Any]
    errors: dict[int, bytes]
    failure: bytes | None = None


class BatchFunction(Reference):
    """Travels as a reference to the user's function, and calls it with a list of items.

    Args:
        function: A module-level function from a list to as many results.
    """

    __slots__ = ()

    def __call__(self, items: Sequence[Any], split: bool) -> BatchResult:
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


def run_batch(fn: Callable[[list[Any]], Any], items: Sequence[Any], split: bool) -> BatchResult:
    """Call ``fn`` with all items or, if that raises and ``split``, with one after the other."""
    try:
        values = copy_context().run(with_own_decimals(_results), fn, list(items))
    except BaseException as error:
        if is_of_runner(error):
            raise
        if type(error) is _Unusable:
            return BatchResult([], {}, encode_error(error.told()))
        if not split or len(items) == 1:
            return BatchResult([], {}, encode_error(error))
        alone = with_own_decimals(_alone)
        values = [copy_context().run(alone, fn, item) for item in items]
    errors = {
        index: encode_error(value) for index, value in enumerate(values) if issubclass(type(value), BaseException)
    }
    for index in errors:
        values[index] = None
    return BatchResult(values, errors)


def _alone(fn: Callable[[list[Any]], Any], item: Any) -> Any:
    """The item's result, or what it raised."""
    try:
        return _results(fn, [item])[0]
    except _Unusable as error:
        return error.told()
    except BaseException as error:
        if is_of_runner(error):
            raise
        return error


class _Unusable(Exception):
    """What the function returned can't be handed out; to try it by items would be of no use."""

    def told(self) -> TaskError:
        return TaskError(str(self), hint="return a list with one result for each item, in their order")


def _results(fn: Callable[[list[Any]], Any], items: list[Any]) -> list[Any]:
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
