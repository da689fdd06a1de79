"""Load something once in each worker and keep it for all its tasks: a model, a table, a connection.

A ``Resource`` is a global of the user's module, in the server and in each worker. Each process fills its own when it is
first asked for. A process that is forked starts without what its parent has loaded: a connection or a thread does not
survive that.
"""

from __future__ import annotations

import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lifepool._host.forks import at_fork
from lifepool._inside import state
from lifepool._transfer.reference import import_by_name, importable_name
from lifepool._usercode.attributes import add_note, signature_of
from lifepool._usercode.interrupts import is_from_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_lock = threading.RLock()  # one for all: two that need each other, loaded by two threads, would wait for ever
_loaded: list[Resource[Any]] = []  # in the order of loading
_kept: list[object] = []  # inherited by a fork: to drop a generator would clean up what is the parent's
_has_exit_call = False


class Resource(Generic[T]):
    """A value that each process loads once, when it is first called; made by ``Pool.resource``.

    Args:
        function: Loads it; takes no arguments. A generator yields it once and cleans up after.
        eager: Whether workers load it before they are ready.

    Attributes:
        eager: As given.

    Raises:
        TypeError: If the function is local or async, or takes arguments.
    """

    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[[], T] | Callable[[], Iterator[T]], *, eager: bool = False) -> None:
        _check(function)
        functools.update_wrapper(self, function)
        self.eager = eager
        self._function: Callable[[], Any] = function
        self._value: Any = None
        self._cleanup: Iterator[Any] | None = None
        self._is_loaded = False
        self._is_loading = False

    def __call__(self) -> T:
        """Return the value, the same one each time in a process.

        Raises:
            Exception: What loading it raised; the next call tries again.
        """
        if not self._is_loaded:
            self._load()
        value: T = self._value
        return value

    def close(self) -> None:
        """Drop this process's value, and clean up if there is something to; the next call loads it anew.

        Workers do this by themselves when they exit normally, and a pool that runs tasks in its own process when it
        ends.
        """
        with _lock:
            if not self._is_loaded:
                return
            _loaded.remove(self)
            cleanup = self._cleanup
            self._forget()
            if cleanup is not None:
                _finish(cleanup, self.__qualname__)

    def _load(self) -> None:
        with _lock:
            if self._is_loaded:  # by another thread, while this one waited
                return
            if self._is_loading:
                raise RuntimeError(f"the resource {self.__qualname__} needs itself to be loaded")
            self._is_loading = True
            try:
                with state.keeping_processes():
                    made = self._function()
                    if inspect.isgeneratorfunction(self._function):
                        self._cleanup, self._value = made, _first(made, self.__qualname__)
                        _clean_up_at_exit()
                    else:
                        self._value = made
            except BaseException as error:
                self._cleanup = None
                add_note(error, f"while the resource {self.__module__}.{self.__qualname__} was being loaded")
                raise
            finally:
                self._is_loading = False
            self._is_loaded = True
            _loaded.append(self)

    def _forget(self) -> None:
        self._value = self._cleanup = None
        self._is_loaded = self._is_loading = False

    def __reduce__(self) -> tuple[object, ...]:
        return (_find, (self.__module__, self.__qualname__))


def load_eagerly(
    initializer: Callable[..., object] | None, initargs: tuple[Any, ...], resources: tuple[Resource[Any], ...]
) -> None:
    """Initialize a worker: call the user's own initializer, and then load each resource."""
    if initializer is not None:
        initializer(*initargs)
    for resource in resources:
        resource()


def without_eager(
    initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> tuple[Callable[..., object] | None, tuple[Any, ...]]:
    """Return the initializer and its arguments for workers that load resources when they need them."""
    return (initargs[0], initargs[1]) if initializer is load_eagerly else (initializer, initargs)


def close_all() -> None:
    """Drop all that this process has loaded, the last one first."""
    with _lock:
        while _loaded:
            _loaded[-1].close()


def _check(function: Callable[..., Any]) -> None:
    name = importable_name(function)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} is async: a worker has no event loop; load it with a plain function")
    required = [p.name for p in signature_of(function).parameters.values() if p.default is p.empty]
    if required:
        raise TypeError(f"{name} is called without arguments, but needs {', '.join(required)}")


def _find(module: str, qualname: str) -> Resource[Any]:
    found = import_by_name(module, qualname)
    if not isinstance(found, Resource):
        raise TypeError(f"{module}.{qualname} is not a resource here, but a {type(found).__qualname__}")
    return found


def _first(generator: Iterator[T], name: str) -> T:
    for value in generator:
        return value
    raise RuntimeError(f"the resource {name} yielded nothing")


def _finish(generator: Iterator[Any], name: str) -> None:
    """Run what comes after the ``yield``. Nobody waits for the outcome: an error is logged."""
    try:
        for _ in generator:
            raise RuntimeError(f"the resource {name} yielded twice")
    except BaseException as error:
        if is_from_signal(error):
            raise
        import logging

        logging.getLogger("lifepool").exception("cleaning up the resource %s failed", name)


def _clean_up_at_exit() -> None:
    global _has_exit_call
    if _has_exit_call:
        return
    _has_exit_call = True
    if state.is_worker:
        state.exit_calls.append(close_all)
    else:
        # Not atexit: processes of multiprocessing (those of the executor backend) do not run that before Python 3.13.
        from multiprocessing import util

        util.Finalize(None, close_all, exitpriority=100)


def _begin_anew() -> None:
    """Forget what the parent has loaded: this is a forked child, and it is the parent's."""
    global _lock, _has_exit_call
    _lock = threading.RLock()  # another thread of the parent may have held it
    _has_exit_call = False
    for resource in _loaded:
        _kept.append((resource._value, resource._cleanup))
        resource._forget()
    _loaded.clear()


at_fork(in_child=_begin_anew)
