"""Carry exceptions between processes, as faithfully as they can be.

An exception is first tried as it is: pickled, rebuilt, and compared with what it was. If it can't be pickled, or what
comes out is something else (a class whose ``__init__`` has its own arguments, or formats its message, is the classic),
it is carried in parts: its class, its ``args``, its attributes and what its built-in base keeps, each as far as it can
be. If not even its class can be found again, a ``TaskError`` describes it. The worker's traceback travels as text and
becomes the ``__cause__`` (the way of ``concurrent.futures``).

Nothing of this trusts the exception. Its class may refuse any attribute, and any of its methods may raise anything: so
what all exceptions have is read and set by ``BaseException``'s own descriptors, which no class can override.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import sys
import traceback
from itertools import repeat
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any

from lifepool._inside.state import TaskInterrupted
from lifepool._usercode.attributes import Field, fields_of, mro_of, own_dict
from lifepool._usercode.display import class_name, cut, text_of
from lifepool._usercode.interrupts import is_from_signal
from lifepool.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PROTOCOL = 5
#: Tracebacks are text for people; past this they are cut in the middle.
MAX_TRACEBACK_CHARS = 32_000
#: So is the text of an exception where it is described.
MAX_SUMMARY_CHARS = 2_000
#: Bytes that an exception may have without its traceback. Of a larger one the parts that fit are carried.
MAX_ERROR_BYTES = 16 * 1024 * 1024
#: Exceptions within exceptions, as in groups, are carried one by one: so many, and down to this depth.
MAX_WITHIN, MAX_DEPTH = 1000, 8

#: Names of lost attributes that a traceback ends with.
_MOST_NAMES = 20

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")

_cause: Any = BaseException.__dict__["__cause__"]
_traceback: Any = BaseException.__dict__["__traceback__"]
_args: Any = BaseException.__dict__["args"]

#: How an exception is carried, and its pickle: ``"whole"`` or ``"parts"``; ``"described"`` if it can't be.
_Carried = tuple[str, bytes]
_DESCRIBED: _Carried = ("described", b"")
_MISSING = object()


class RemoteTraceback(Exception):
    """The worker's traceback, as the cause of the exception that the task raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def encode_error(error: BaseException, limit: int = MAX_ERROR_BYTES) -> bytes:
    """Pickle an exception; never fails.

    Args:
        error: The exception.
        limit: Bytes that it may have, without its traceback, if that is less than ``MAX_ERROR_BYTES``.
    """
    description = _description(error)
    summary = _summary(error)
    how, pickled = _DESCRIBED
    with contextlib.suppress(Exception):  # what is left that it may refuse
        budget = _Budget(min(limit, MAX_ERROR_BYTES))
        how, pickled = _carried(error, budget)
        if how == "parts" and budget.left_out:
            description += (
                f"\n[lost on the way, because it can't be pickled or is too large: {', '.join(budget.left_out)}]\n"
            )
    return pickle.dumps((how, pickled, summary, description), PROTOCOL)


def decode_error(payload: bytes | memoryview) -> BaseException:
    """Rebuild an exception, with the worker's traceback as its cause; never fails.

    What a coroutine could not raise without meaning something else is the cause of a ``TaskError``; see ``bearable``.
    """
    failure: BaseException | None = None
    try:
        how, pickled, summary, description = pickle.loads(payload)
    except BaseException as raised:
        failure = raised
        how, pickled, description = "described", b"", ""
        summary = f"an exception that could not be read here ({class_name(raised)})"
    error: BaseException | None = None
    try:
        error = _rebuilt(how, pickled)
    except BaseException as raised:  # the class is not importable here, or its __setstate__ raises
        failure = raised
    if error is None:
        error = _described(f"the task raised {summary}")
        error.__context__ = failure
    set_cause(error, RemoteTraceback(description))
    return bearable(error)


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set ``error.__cause__``, also if its class refuses to have attributes set, as frozen dataclasses do."""
    _cause.__set__(error, cause)


def copy_cause(error: BaseException, twin: BaseException) -> None:
    """Set ``twin.__cause__`` to ``error.__cause__``, likewise."""
    _cause.__set__(twin, _cause.__get__(error))


def worker_traceback(error: BaseException) -> str | None:
    """Return the worker's traceback, if it came from one."""
    cause = _cause.__get__(error)
    if type(error) is TaskError and cause is not None and _is_unbearable(cause):
        cause = _cause.__get__(cause)
    return cause.text if type(cause) is RemoteTraceback else None


# -- what an event loop can't bear ----------------------------------------------------------------------------------


def bearable(error: BaseException) -> BaseException:
    """Make the error one that a coroutine can raise; see decision 25.

    ``SystemExit`` and ``KeyboardInterrupt`` would end the event loop, ``CancelledError`` and ``GeneratorExit`` would
    look as if the caller were cancelled or closed, and ``StopIteration`` can't be raised there at all: each becomes the
    cause of a ``TaskError``.
    """
    if not _is_unbearable(error):
        return error
    described = _described(f"the task raised {_summary(error)}")
    described.__cause__ = error
    return described


def as_raised(error: BaseException) -> BaseException:
    """Return what the task raised, where no event loop has to bear it: undoes ``bearable``."""
    cause = _cause.__get__(error)
    return cause if type(error) is TaskError and cause is not None and _is_unbearable(cause) else error


def _is_unbearable(error: BaseException) -> bool:
    return issubclass(type(error), _UNBEARABLE + _cancelled_error())


_UNBEARABLE: tuple[type[BaseException], ...] = (
    SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration, TaskInterrupted,
)  # fmt: skip


def _cancelled_error() -> tuple[type[BaseException], ...]:
    """Return asyncio's, if this process has loaded it: workers do without."""
    module = sys.modules.get("asyncio.exceptions")
    return () if module is None else (module.CancelledError,)


def _summary(error: BaseException) -> str:
    return f"{class_name(error)}: {cut(text_of(error), MAX_SUMMARY_CHARS)}"


def _described(message: str) -> TaskError:
    return TaskError(message, hint="the worker's traceback is the cause of this error")


def is_of_runner(error: BaseException) -> bool:
    """Return whether what came out of one of many calls is for who runs them all, rather than that call's own error."""
    return issubclass(type(error), (TaskInterrupted, KeyboardInterrupt)) or is_from_signal(error)


# -- there ----------------------------------------------------------------------------------------------------------


class _Budget:
    """Hold what may still be spent on one exception, with those that are within it."""

    def __init__(self, room: int) -> None:
        self.room = room  # bytes
        self.within = MAX_WITHIN
        self.path: list[int] = []  # ids of the exceptions that we are in
        self.left_out: list[str] = []  # the names of what could not be carried, of the outermost


def _carried(error: BaseException, budget: _Budget) -> _Carried:
    """Carry it in the first way of which the same comes out, else in the best."""
    whole = _pickled(error, budget.room)
    copy = None if whole is None else _rebuilt_or_none("whole", whole)
    if whole is not None and copy is not None and _is_faithful(error, copy):
        return "whole", whole
    parts = _in_parts(error, budget)
    rebuilt = None if parts is None else _rebuilt_or_none("parts", parts)
    has_parts = type(rebuilt) is type(error)
    if whole is not None and type(copy) is type(error):
        # The parts are better if they are the same, or if the class has changed its args.
        better = has_parts and (
            _is_faithful(error, rebuilt) or not _are_equal(_args.__get__(error), _args.__get__(copy), set())
        )
        if not better:
            return "whole", whole
    return ("parts", parts) if parts is not None and has_parts else _DESCRIBED


def _in_parts(error: BaseException, budget: _Budget) -> bytes | None:
    """Pickle class, args, attributes, fields and, of a group, its exceptions; leave out what can't be carried."""
    budget.path.append(id(error))
    group: tuple[str, list[Any]] | None = None
    inner: tuple[BaseException, ...] = ()
    if issubclass(type(error), BaseExceptionGroup):
        members = vars(BaseExceptionGroup)
        inner = members["exceptions"].__get__(error)
        group = members["message"].__get__(error), [_part(each, budget) or _summary_of(each) for each in inner]
    args = [
        type(arg)
        if inner and type(arg) in (list, tuple) and tuple(map(id, arg)) == tuple(map(id, inner))
        else _named_part(f"args[{index}]", arg, budget) or _part(cut(text_of(arg), MAX_SUMMARY_CHARS), budget)
        for index, arg in enumerate(_args.__get__(error))
    ]
    fields = {
        (number, name): part
        for number, name, _, value in _fields(error)
        if not (group and name in ("message", "exceptions"))
        and (part := _named_part(f".{name}", value, budget)) is not None
    }
    attributes = {
        name: part
        for name, value in list(own_dict(error).items())
        if (part := _named_part(f".{name}", value, budget)) is not None
    }
    budget.path.pop()
    return _pickled((type(error), args, group, fields, attributes), sys.maxsize)


def _named_part(name: str, value: object, budget: _Budget) -> bytes | _Carried | None:
    part = _part(value, budget)
    if part is None and len(budget.path) == 1 and len(budget.left_out) < _MOST_NAMES:
        budget.left_out.append(cut(name, 80))
    return part


def _part(value: object, budget: _Budget) -> bytes | _Carried | None:
    """Carry an exception as such, and pickle anything else; None if it can't be, or there is no room for it."""
    if issubclass(type(value), BaseException):
        if id(value) in budget.path or len(budget.path) >= MAX_DEPTH or not budget.within:
            return None
        budget.within -= 1
        how, pickled = _carried(value, budget)  # type: ignore[arg-type]
        if how == "described" or len(pickled) > budget.room:
            return None
        budget.room -= len(pickled)
        return how, pickled
    found = _pickled(value, budget.room)
    if found is not None:
        budget.room -= len(found)
    return found


def _summary_of(error: BaseException) -> _Carried:
    """Make what stands in a group in the place of an exception that can't be carried."""
    return "whole", pickle.dumps(TaskError(_summary(error)), PROTOCOL)


def _fields(error: BaseException) -> Iterator[tuple[int, str, Field, Any]]:
    """Yield what it keeps outside of ``__dict__``: a number (names may occur twice), name, field, value."""
    for number, (name, field) in enumerate(fields_of(type(error))):
        value = _read(field, error)
        if value is not _MISSING:
            yield number, name, field, value


def _read(field: Field, error: BaseException) -> Any:
    try:
        return field.__get__(error)
    except Exception:  # an unset slot
        return _MISSING


class _TooMuch(Exception):
    """The pickle is above the limit."""


class _Limited:
    """A file that takes only so much."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self.pieces: list[bytes] = []

    def write(self, data: Any) -> None:
        """Append; what a ``pickle.Pickler`` calls."""
        if type(data) is pickle.PickleBuffer:
            data = data.raw()
        self._room -= len(data)
        if self._room < 0:
            raise _TooMuch
        self.pieces.append(bytes(data))


def _pickled(value: object, limit: int) -> bytes | None:
    """Pickle it; None if that fails, or it is too large."""
    file = _Limited(limit)
    try:
        pickle.Pickler(file, PROTOCOL).dump(value)
    except TaskInterrupted:
        raise
    except BaseException:
        return None
    return b"".join(file.pieces)


def _is_faithful(error: BaseException, copy: BaseException | None) -> bool:
    """Return whether the copy is what it was: type, args, text, attributes, and what its built-in base keeps."""
    try:
        return _are_same(error, copy, set())
    except TaskInterrupted:
        raise
    except BaseException:  # a comparison that does not end, a hash that raises, ...
        return False


def _are_same(error: BaseException, copy: BaseException | None, seen: set[int]) -> bool:
    if copy is None or type(copy) is not type(error):
        return False
    if id(error) in seen:  # within itself
        return True
    seen.add(id(error))
    if not _are_equal(_args.__get__(error), _args.__get__(copy), seen):
        return False
    mine, other = text_of(error), text_of(copy)
    if mine != other and _ADDRESS.sub("", mine) != _ADDRESS.sub("", other):
        return False
    its = own_dict(copy)
    if not all(_are_equal(value, its.get(name, _MISSING), seen) for name, value in list(own_dict(error).items())):
        return False
    return all(_are_equal(value, _read(field, copy), seen) for _, _, field, value in _fields(error))


def _are_equal(value: Any, other: Any, seen: set[int]) -> bool:
    """Return whether they are equal, or as equal as can be: what can't be pickled could not be carried better."""
    if value is other:
        return True
    if type(value) is type(other):
        if issubclass(type(value), BaseException):
            return _are_same(value, other, seen)
        try:
            if value == other:
                return True
        except TaskInterrupted:
            raise
        except BaseException:  # noqa: S110 - it can't be compared so; as pickles, perhaps
            pass
        if type(value) in (tuple, list) and any(issubclass(type(each), BaseException) for each in value):
            return len(value) == len(other) and all(map(_are_equal, value, other, repeat(seen)))
    pickled = _pickled(value, MAX_ERROR_BYTES)
    return pickled is None or (other is not _MISSING and pickled == _pickled(other, MAX_ERROR_BYTES))


def _description(error: BaseException) -> str:
    # The first frame is the worker's own loop: of no use to anybody.
    start: TracebackType | None = _traceback.__get__(error)
    start = start.tb_next if start is not None and start.tb_next is not None else start
    try:
        text = "".join(traceback.format_exception(type(error), error, start))
    except TaskInterrupted:
        raise
    except BaseException:  # an attribute of somebody's own class refuses
        frames = "".join(traceback.format_tb(start))
        text = f"Traceback (most recent call last):\n{frames}{class_name(error)}: {text_of(error)}\n"
    return _shortened(text)


def _shortened(text: str) -> str:
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    half = MAX_TRACEBACK_CHARS // 2
    return f"{text[:half]}\n  ... cut ...\n{text[-half:]}"


# -- and back -------------------------------------------------------------------------------------------------------


def _rebuilt_or_none(how: str, pickled: bytes) -> BaseException | None:
    try:
        return _rebuilt(how, pickled)
    except TaskInterrupted:
        raise
    except BaseException:
        return None


def _rebuilt(how: str, pickled: bytes) -> BaseException | None:
    if how == "whole":
        found: Any = pickle.loads(pickled)
        # By its real type: an object may claim to be of any class.
        return found if issubclass(type(found), BaseException) else None
    if how != "parts":
        return None
    cls, args, group, fields, attributes = pickle.loads(pickled)
    inner = [] if group is None else [_value(each) for each in group[1]]
    error = _made(cls, () if group is None else (group[0], inner))
    _args.__set__(error, tuple(part(inner) if isinstance(part, type) else _value(part) for part in args))
    for number, (name, field) in enumerate(fields_of(cls)):
        with contextlib.suppress(Exception):  # it is read-only, or its value's class is not importable here
            _set(field, error, fields.get((number, name)))
    kept = own_dict(error)
    for name, part in attributes.items():
        with contextlib.suppress(Exception):  # the class of the value is not importable here
            kept[name] = _value(part)
    return error


def _set(field: Field, error: BaseException, part: Any) -> None:
    with contextlib.suppress(AttributeError, TypeError):  # it is not set, or a number
        field.__delete__(error)
    if part is None:
        return
    value = _value(part)
    if value is not _read(field, error):  # in C "not set" and None look the same, but not to OSError's __str__
        field.__set__(error, value)


def _made(cls: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """Make an exception of this class, of which only its built-in base knows."""
    for each in mro_of(cls):
        new = vars(each).get("__new__")
        if type(new) is BuiltinFunctionType:
            with contextlib.suppress(TypeError):  # another of its bases is the one that counts
                made: BaseException = new(cls, *arguments)
                return made
    raise TypeError("an exception that only its class can make")


def _value(part: Any) -> Any:
    if type(part) is bytes:
        return pickle.loads(part)
    found = _rebuilt(*part)
    if found is None:
        raise pickle.UnpicklingError("an exception within an exception is missing")
    return found
