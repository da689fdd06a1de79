"""Why something can't be pickled: find the smallest part at fault and name the way to it.

Runs only after pickling failed, and looks at a bounded number of parts.
"""

from __future__ import annotations

import pickle
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Parts looked at before giving up: a deep search of a huge graph would cost more than the answer is worth.
MAX_PARTS = 2000


def explain(value: object, path: str, error: Exception) -> tuple[str, str]:
    """The path to the part that can't be pickled, such as ``args[0].session._lock``, and the reason.

    Args:
        value: What could not be pickled.
        path: The name of the whole.
        error: What pickling it raised.
    """
    budget = [MAX_PARTS]
    seen = {id(value)}
    while True:
        for name, part in _parts(value):
            budget[0] -= 1
            if budget[0] < 0:
                return path, _reason(error)
            if id(part) in seen:
                continue
            seen.add(id(part))
            failure = _failure(part)
            if failure is not None:
                value, path, error = part, path + name, failure
                break
        else:
            return path, _reason(error)


def _failure(part: object) -> Exception | None:
    try:
        pickle.dumps(part, 5)
    except Exception as error:
        return error
    return None


def _reason(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What a value is made of, with the text by which it is reached."""
    if isinstance(value, partial):
        yield ".func", value.func
        yield ".args", value.args
        yield ".keywords", value.keywords
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{_shown(key)}]", item
            yield f" key {_shown(key)}", key
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in list(value):
            yield f"{{{_shown(item)}}}", item
    else:
        yield from _attributes(value)


def _shown(value: object) -> str:
    try:
        return f"{value!r:.60}"
    except Exception:
        return f"<{type(value).__qualname__}>"


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, (type, FunctionType)):
        return
    if hasattr(value, "__self__") and hasattr(value, "__func__"):
        yield ".__self__", value.__self__
    try:
        names = list(vars(value))
    except TypeError:
        names = [slot for cls in type(value).__mro__ for slot in getattr(cls, "__slots__", ())]
    for name in names:
        try:
            yield f".{name}", getattr(value, name)
        except Exception:  # noqa: S112 - an unset slot, or a property that raises
            continue
