"""Why something can't be pickled: find the smallest part at fault and name the way to it.

Runs only after pickling failed, and for a bounded time, however large the value is: a few milliseconds on the event
loop, longer in a worker, which keeps nobody else waiting.

Theory of operation
    A value is pickled once more, into nothing, by a pickler that notes each part that is not of a built-in type,
    before that is pickled. The last of them is where it failed, or the last that is a part at all: the others may have
    been made by a ``__reduce__``. Then the way to it is looked for, without running code of the objects: from the value
    on, level by level.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType, ModuleType, NoneType
from typing import TYPE_CHECKING, Any

from lifepool._inside.state import TaskInterrupted
from lifepool._usercode.attributes import held
from lifepool._usercode.display import cut, reason_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that pickling again may take, and that finding the way may take, on the event loop. A part whose own code is
#: slow is not broken off.
SEARCH_S = 0.004
#: The same in a worker.
SEARCH_IN_WORKER_S = 0.1
#: Characters of the way to a part; of a longer one, its beginning and its end are shown.
MAX_PATH_CHARS = 200
#: So many of the parts that were pickled last are looked at.
_LAST_SEEN = 64
#: Parts of the way's search between two looks at the clock.
_PER_LOOK = 64

_ATOMS = frozenset({int, float, complex, bool, str, bytes, NoneType})
_WHOLE = (type, FunctionType, ModuleType)


class _OutOfTime(Exception):
    """The search ends here."""


def explain(
    value: object, path: str, error: BaseException, *others: tuple[object, str], search_s: float = SEARCH_S
) -> tuple[str, str]:
    """Find the part that can't be pickled: its path, such as ``args[0].session._lock``, and the reason.

    Args:
        value: What could not be pickled.
        path: The name of the whole.
        error: What pickling it raised.
        others: What else it may have been, and what that is called.
        search_s: Seconds for each of the two searches.
    """
    if issubclass(type(error), RecursionError):  # to look for it would be as deep again, at each level
        return _sole(value, path), reason_of(error)
    deadline = time.monotonic() + search_s
    for whole, name in ((value, path), *others):
        failure, seen = _pickled_again(whole, deadline)
        if failure is None:
            continue
        if issubclass(type(failure), (_OutOfTime, RecursionError)):
            return _sole(whole, name), reason_of(error)
        way = _way(whole, seen, time.monotonic() + search_s)
        return cut(name + way if way else _sole(whole, name), MAX_PATH_CHARS), reason_of(failure)
    return path, reason_of(error)


def _sole(value: object, path: str) -> str:
    """Name the path, as far as it needs no search: to the one argument that there is."""
    return f"{path}[0]" if type(value) is tuple and len(value) == 1 else path


class _Witness(pickle.Pickler):
    """Pickles into nothing, and knows what it came to last."""

    def __init__(self, deadline: float) -> None:
        super().__init__(self, 5)
        self._deadline = deadline
        self.seen: deque[object] = deque(maxlen=_LAST_SEEN)

    def write(self, data: object) -> None:
        """Look at the clock; called with each piece of the pickle, of some 64 KiB."""
        if time.monotonic() > self._deadline:
            raise _OutOfTime

    def reducer_override(self, obj: Any) -> Any:
        """Note a part; called for each that is not of a built-in type, before it is pickled."""
        if time.monotonic() > self._deadline:
            raise _OutOfTime
        self.seen.append(obj)
        return NotImplemented


def _pickled_again(value: object, deadline: float) -> tuple[BaseException | None, deque[object]]:
    """Return what pickling it raises, and what was pickled last."""
    witness = _Witness(deadline)
    try:
        witness.dump(value)
    except TaskInterrupted:
        raise
    except BaseException as error:
        return error, witness.seen
    return None, witness.seen


def _way(whole: object, seen: deque[object], deadline: float) -> str:
    """Find the way to the last of ``seen`` that is a part of the whole and can't be pickled by itself."""
    suspects = list(reversed(seen))
    if not suspects or suspects[0] is whole:
        return ""
    reached = _reached(whole, suspects[0], deadline)
    for suspect in suspects:
        if id(suspect) in reached and _pickled_again(suspect, deadline)[0] is not None:
            steps: list[str] = []
            at = id(suspect)
            while at != id(whole):
                at, _, named, key = reached[at]
                steps.append(named(key))
            return "".join(reversed(steps))
    return ""


_Naming = Callable[[Any], str]


def _reached(whole: object, wanted: object, deadline: float) -> dict[int, tuple[int, object, _Naming, object]]:
    """Map parts of the whole by their ids: the id of what each is in, the part, and how it is called there."""
    reached: dict[int, tuple[int, object, _Naming, object]] = {id(whole): (0, whole, str, "")}
    waiting: deque[object] = deque([whole])
    count = 0
    while waiting:
        value = waiting.popleft()
        for named, key, part in _parts(value):
            count += 1
            if count % _PER_LOOK == 0 and time.monotonic() > deadline:
                return reached
            if type(part) in _ATOMS or id(part) in reached:
                continue
            reached[id(part)] = id(value), part, named, key
            if part is wanted:
                return reached
            waiting.append(part)
    return reached


def _parts(value: Any) -> Iterator[tuple[_Naming, object, object]]:
    """Yield what a value is made of: what makes the text by which a part is reached, and of what; the part."""
    kind = type(value)
    if issubclass(kind, _WHOLE):
        return
    if issubclass(kind, partial):
        yield from ((_attribute, name, getattr(value, name)) for name in ("func", "args", "keywords"))
    elif kind is MethodType:
        yield _attribute, "__self__", value.__self__
    else:
        yield from _items(value, kind)
    for name, item in held(value):
        yield _attribute, name, item


def _items(value: Any, kind: type) -> Iterator[tuple[_Naming, object, object]]:
    """Do the same of a container, by the methods of the built-in type: those of a subclass are somebody's code."""
    if issubclass(kind, dict):
        for key, item in list(dict.items(value)):
            yield _item, key, item
            yield _key, key, key
    elif issubclass(kind, (list, tuple)):
        for index, item in enumerate(list.__iter__(value) if issubclass(kind, list) else tuple.__iter__(value)):
            yield _item, index, item
    elif issubclass(kind, (set, frozenset)):
        for item in list(set.__iter__(value) if issubclass(kind, set) else frozenset.__iter__(value)):
            yield _member, item, item


def _attribute(name: object) -> str:
    return f".{name}"


def _item(key: object) -> str:
    return f"[{shown(key)}]"


def _key(key: object) -> str:
    return f" key {shown(key)}"


def _member(item: object) -> str:
    return f"{{{shown(item)}}}"
