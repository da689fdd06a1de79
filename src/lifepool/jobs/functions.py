"""Functions by import path, as in ``"package.module:function"``. Workers import this module: keep it light."""

from __future__ import annotations

import importlib
import importlib.util
import operator
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifepool._transfer.reference import Reference
from lifepool.jobs.errors import JobNotCallable, JobNotStorable

if TYPE_CHECKING:
    from collections.abc import Callable

_TOP_LEVEL = "define it at the top level of a module"


def split_call(fn: Any, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Take partials apart: the function inside, all its arguments, its keywords."""
    keywords: dict[str, Any] = {}
    while isinstance(fn, partial):
        args, keywords, fn = fn.args + args, {**fn.keywords, **keywords}, fn.func
    return fn, args, keywords


def path_of(fn: Any) -> str:
    """Return the import path by which a server finds the function after a restart.

    Raises:
        JobNotStorable: If it has none: it is local, a lambda, a method of an object, or its name stands for another.
    """
    plain = _unwrapped(fn)
    qualname = getattr(plain, "__qualname__", "")
    module = getattr(plain, "__module__", None)
    shown = qualname or repr(fn)[:100]
    if not qualname or module is None or not callable(plain):
        raise JobNotStorable(shown, "it is no function that has a name in a module", hint=_TOP_LEVEL)
    if "<" in qualname:
        raise JobNotStorable(shown, "it is local or a lambda, so no server could find it again", hint=_TOP_LEVEL)
    path = f"{_main_module() if module == '__main__' else module}:{qualname}"
    if module != "__main__" and _found(path) is not plain:
        raise JobNotStorable(shown, f"{path} is something else", hint=_TOP_LEVEL)
    return path


def find(path: str) -> Callable[..., Any]:
    """Import the function.

    Raises:
        JobNotCallable: Saying why there is none.
    """
    try:
        found = _found(path)
    except Exception as error:  # whatever the import of somebody's module raises
        raise JobNotCallable(f"{path} can't be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise JobNotCallable(f"{path} can't be called: it is a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _found(path: str) -> Any:
    module, _, qualname = path.partition(":")
    return _unwrapped(operator.attrgetter(qualname)(importlib.import_module(module)))


def _unwrapped(fn: Any) -> Any:
    """Return the plain function of one that was decorated by a pool or by jobs, which keep it as a ``Reference``."""
    inner = getattr(fn, "function", None)
    if isinstance(inner, Reference):
        fn = inner
    return fn.__wrapped__ if isinstance(fn, Reference) else fn


def _main_module() -> str:
    """Return the name under which the script that runs can be imported.

    Raises:
        JobNotStorable: If it has none.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is not None and (stem := Path(file).stem).isidentifier():
        try:
            other = importlib.util.find_spec(stem)
        except (ImportError, ValueError):
            other = None
        if other is not None and other.origin is not None and Path(other.origin).samefile(file):
            return stem
    raise JobNotStorable(
        "a function of the script itself", "no server could import it after a restart", hint="put it into a module"
    )
