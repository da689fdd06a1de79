"""Tell an app from a lifespan function: frameworks give the one to ``pool.lifespan``, people the other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

from lifepool._usercode.attributes import signature_of

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]

_HOW = "decorate 'async def lifespan(app): ... yield ...' with @asynccontextmanager"


def own_lifespan(candidate: Any) -> Lifespan | None:
    """Return the lifespan function that somebody put into ``pool.lifespan(...)``; None if it is an app.

    A lifespan function can be called with the app alone: a function, a method, a ``functools.partial``, a callable
    object, a class of asynchronous context managers. As in Starlette, a bare generator function is taken for the
    context manager that it was meant to be. An app is called with a scope, ``receive`` and ``send``, or not at all.

    Raises:
        TypeError: If it is neither.
    """
    if not callable(candidate):
        if isinstance(candidate, AbstractAsyncContextManager):
            raise TypeError(_refusal(candidate, "is a context manager already: give the function, without calling it"))
        return None  # what a framework without an app of its own gives, such as None
    if _is_app(candidate):
        return None
    if isinstance(candidate, AbstractAsyncContextManager):
        raise TypeError(_refusal(candidate, "is a context manager already: give the function, without calling it"))
    if not _takes(candidate, 1):
        raise TypeError(_refusal(candidate, f"is no app, and can't be called with the app alone: {_HOW}"))
    code = _code_of(candidate)
    if inspect.isasyncgenfunction(code):
        return _checked(candidate, asynccontextmanager(candidate))
    if inspect.isgeneratorfunction(code):
        return _checked(candidate, _lifted(candidate))
    if inspect.iscoroutinefunction(code):
        raise TypeError(_refusal(candidate, f"is a coroutine function, which is no context manager: {_HOW}"))
    return _checked(candidate, candidate)


def _is_app(candidate: Any) -> bool:
    """Tell whether it is called as ASGI apps are.

    What could be called either way is distinguished by what it is: apps are coroutine functions, or objects of a
    framework; lifespans are plain functions that return a context manager.
    """
    if inspect.isclass(candidate):  # one of context managers is a lifespan; apps of ASGI 2 were classes
        return not hasattr(candidate, "__aenter__") and any("__call__" in vars(base) for base in candidate.__mro__)
    if not _takes(candidate, 3):
        return False
    if not _takes(candidate, 1):
        return True
    code = _code_of(candidate)
    if inspect.iscoroutinefunction(code):
        return True
    return not (inspect.isroutine(candidate) or isinstance(candidate, functools.partial))


def _takes(candidate: Any, count: int) -> bool:
    """Tell whether it can be called with so many positional arguments; what has no signature takes three."""
    try:
        signature_of(candidate).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return count == 3
    return True


def _code_of(candidate: Any) -> Any:
    """Return the function that a call reaches: of a partial, of a callable object."""
    while isinstance(candidate, functools.partial):
        candidate = candidate.func
    if inspect.isroutine(candidate) or inspect.isclass(candidate):
        return candidate
    return type(candidate).__call__


def _lifted(function: Callable[[Any], Any]) -> Lifespan:
    """Make an asynchronous lifespan of a plain generator function."""
    made = contextmanager(function)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        with made(app) as state:
            yield state

    return lifespan


def _checked(named: Any, function: Callable[[Any], Any]) -> Lifespan:
    """Wrap the lifespan function, so that its mistakes are named."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
        entered = function(app)
        if not hasattr(type(entered), "__aenter__"):
            if inspect.iscoroutine(entered):
                entered.close()
            raise TypeError(_refusal(named, f"returned {entered!r}, which is no asynchronous context manager: {_HOW}"))
        async with entered as state:
            if state is not None and not isinstance(state, Mapping):
                raise TypeError(_refusal(named, f"yielded {state!r}: expected nothing, or a dict for request.state"))
            yield state

    return lifespan


def _refusal(candidate: Any, what: str) -> str:
    name = getattr(candidate, "__qualname__", None) or repr(candidate)
    return f"pool.lifespan({name}): it {what}"
