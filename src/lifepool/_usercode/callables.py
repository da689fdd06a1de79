"""Refuse what a pool can't call before anything is queued, in words that say what to do."""

from __future__ import annotations

import contextlib
import functools
import inspect
from types import BuiltinFunctionType, CoroutineType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from lifepool._transfer.naming import name_of
from lifepool._transfer.reference import Reference
from lifepool._usercode.display import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: In a code object's flags: calling the function does not run it, but gives something that is still to be run.
UNFINISHED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


def check_function(fn: Any) -> None:
    """Refuse what is not a plain function, be it in a partial, a method, or an object that can be called.

    Raises:
        TypeError: Saying what it is, and what to do.
    """
    inner = fn
    while isinstance(inner, (functools.partial, Reference)):
        inner = inner.func if isinstance(inner, functools.partial) else inner.__wrapped__
    function = inner.__func__ if type(inner) is MethodType else inner
    kind = type(function)
    if kind is BuiltinFunctionType or (kind is FunctionType and not function.__code__.co_flags & UNFINISHED):
        return  # nearly always; what follows takes some microseconds
    if type(inner) is CoroutineType:
        inner.close()  # else Python warns that it was never awaited
        raise TypeError(f"{inner.__qualname__} is async and was called: {_ON_LOOP}")
    if not callable(inner):
        raise TypeError(f"{shown(fn)} can't be called: pass a function, then its arguments, as in run(f, x)")
    # Of an object that can be called, its class has the function; a class makes objects, whatever those are.
    called = (inner,) if isinstance(inner, type) else (inner, type(inner).__call__)
    if _is_any(called, inspect.iscoroutinefunction, inspect.isasyncgenfunction):
        raise TypeError(f"{name_of(fn)} is async: {_ON_LOOP}")
    if _is_any(called, inspect.isgeneratorfunction):
        raise TypeError(f"{name_of(fn)} is a generator function: what it yields stays in the worker; return a list")


def _is_any(called: Iterable[Any], *kinds: Callable[[Any], bool]) -> bool:
    """Return whether one of these is of one of these kinds; not if its attributes are code that raises."""
    for each in called:
        with contextlib.suppress(Exception):
            if any(is_kind(each) for is_kind in kinds):
                return True
    return False


_ON_LOOP = "it belongs on the event loop; pass a plain function"


def refuse_keywords(method: str, keywords: Iterable[str], known: Callable[..., Any]) -> None:
    """Say whose the keywords of a pool's method are.

    Args:
        method: The method that was called.
        keywords: What it does not know.
        known: Has the keywords that it knows.

    Raises:
        TypeError: If there are any.
    """
    unknown = sorted(keywords)
    if not unknown:
        return
    own = [name for name, p in inspect.signature(known).parameters.items() if p.kind is p.KEYWORD_ONLY]
    first = unknown[0]
    raise TypeError(
        f"{method}() does not know {', '.join(unknown)}: its keywords are the pool's own ({', '.join(own)}); "
        f"give the function its keywords with functools.partial(fn, {first}=...)"
    )
