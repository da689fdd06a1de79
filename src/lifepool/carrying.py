"""Exceptions carried between processes, as faithfully as they can be.

An exception is first tried as it is. If it can't be pickled, or what comes out of the pickle is something else (a class
whose ``__init__`` has its own arguments is the classic), it is carried in parts: its class, its ``args`` and those
attributes that can be. If not even its class can be found again, a ``TaskError`` tells its story. The worker's
traceback travels as text and becomes the ``__cause__`` (the way of ``concurrent.futures``).
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
from typing import TYPE_CHECKING

from lifepool.errors import TaskError

if TYPE_CHECKING:
    from types import TracebackType

PROTOCOL = 5
#: Tracebacks are text for people; past this they are cut in the middle.
MAX_TRACEBACK_CHARS = 32_000


class RemoteTraceback(Exception):
    """The worker's traceback, as the cause of the exception that the task raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def encode_error(error: BaseException) -> bytes:
    """Pickle an exception; never fails."""
    story = _story(error)
    summary = f"{type(error).__qualname__}: {_text(error)}"
    # What would end the server if it were raised there (SystemExit) or has a meaning of its own in a coroutine
    # (StopIteration, CancelledError) is told about, not re-raised.
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
        whole = _pickled(error)
        if whole is not None and _survives(error, whole):
            return pickle.dumps(("whole", whole, summary, story), PROTOCOL)
        parts = _in_parts(error)
        if parts is not None:
            return pickle.dumps(("parts", parts, summary, story), PROTOCOL)
    return pickle.dumps(("told", b"", summary, story), PROTOCOL)


def decode_error(payload: bytes | memoryview) -> BaseException:
    """Rebuild an exception, with the worker's traceback as its cause; never fails."""
    try:
        how, pickled, summary, story = pickle.loads(payload)
    except Exception as failure:
        how, pickled, story = "told", b"", ""
        summary = f"an exception that could not be read here ({type(failure).__name__})"
    error: BaseException | None = None
    with contextlib.suppress(Exception):  # the class is not importable here, or its __setstate__ raises
        error = _rebuild(how, pickled)
    if error is None:
        error = TaskError(f"the task raised {summary}", hint="the worker's traceback is the cause of this error")
    error.__cause__ = RemoteTraceback(story)
    return error


def _rebuild(how: str, pickled: bytes) -> BaseException | None:
    if how == "whole":
        found: object = pickle.loads(pickled)
        return found if isinstance(found, BaseException) else None
    if how == "parts":
        cls, args, attributes = pickle.loads(pickled)
        error: BaseException = cls.__new__(cls)
        error.args = args
        for name, value in attributes.items():
            setattr(error, name, value)
        return error
    return None


def _survives(error: BaseException, pickled: bytes) -> bool:
    try:
        copy = pickle.loads(pickled)
        return type(copy) is type(error) and len(copy.args) == len(error.args)
    except Exception:
        return False


def _in_parts(error: BaseException) -> bytes | None:
    args = tuple(arg if _pickled(arg) is not None else _text(arg) for arg in error.args)
    attributes = {
        name: value
        for name, value in getattr(error, "__dict__", {}).items()
        if name != "__notes__" and _pickled(value) is not None
    }
    pickled = _pickled((type(error), args, attributes))
    if pickled is None:
        return None
    try:
        _rebuild("parts", pickled)
    except Exception:
        return None
    return pickled


def _pickled(value: object) -> bytes | None:
    try:
        return pickle.dumps(value, PROTOCOL)
    except Exception:
        return None


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__qualname__} whose str() raises>"


def _story(error: BaseException) -> str:
    # The first frame is the worker's own loop: of no use to anybody.
    start: TracebackType | None = error.__traceback__
    start = start.tb_next if start is not None and start.tb_next is not None else start
    try:
        text = "".join(traceback.format_exception(type(error), error, start))
    except Exception:
        text = f"{type(error).__qualname__} (its traceback could not be shown)\n"
    if len(text) > MAX_TRACEBACK_CHARS:
        half = MAX_TRACEBACK_CHARS // 2
        text = f"{text[:half]}\n  ... cut ...\n{text[-half:]}"
    return text
