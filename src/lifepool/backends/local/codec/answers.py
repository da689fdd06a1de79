"""Turn answers into bytes and back: what functions return, and what they raise (see ``_transfer/exceptions.py``)."""

from __future__ import annotations

import pickle
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING

from lifepool._core.framing import Kind
from lifepool._inside.state import TaskInterrupted
from lifepool._transfer.exceptions import encode_error
from lifepool._transfer.grouped import GroupResult
from lifepool._usercode.display import reason_of
from lifepool.backends.local.codec.diagnosis import SEARCH_IN_WORKER_S, explain
from lifepool.backends.local.codec.large_text import placeholder
from lifepool.backends.local.codec.out_of_band import buffers_of
from lifepool.backends.local.codec.sink import TooLarge, dump
from lifepool.errors import PayloadTooLarge, Side, TaskNotPicklable

if TYPE_CHECKING:
    from lifepool.backends.local.shared.results import ResultWriter
    from lifepool.backends.local.shared.store import Stored

#: Room that an exception has beyond ``max_payload``, for its traceback: no limit is too small to say what is wrong.
ENVELOPE_BYTES = 256 * 1024


def encode_value(value: object, max_payload: int, what: Side = "result") -> bytes:
    """Pickle a value.

    Args:
        value: Anything.
        max_payload: Limit in bytes.
        what: What it is, for errors.

    Raises:
        TaskNotPicklable: Naming the part that can't be pickled.
        PayloadTooLarge: If it is above the limit.
    """
    return encode_result(value, max_payload, None, what)[1]


def encode_result(
    value: object, max_payload: int, shared: ResultWriter | None, what: Side = "result"
) -> tuple[Kind, bytes]:
    """Pickle what a function returned, into shared memory if it is big.

    Returns:
        The frame's kind and its content.

    Raises:
        TaskNotPicklable: Naming the part that can't be pickled.
        PayloadTooLarge: If it is above the limit.
    """
    try:
        pickled = _dump(value, shared, max_payload)
    except TooLarge as error:
        raise PayloadTooLarge(what, error.size, max_payload) from None
    except TaskInterrupted:
        raise
    except BaseException as error:
        raise _refusal(value, error, what) from None
    if isinstance(pickled, bytes):
        return Kind.RESULT, pickled
    assert shared is not None  # noqa: S101 - or it would not be there
    return Kind.RESULT_STORED, shared.hand_over(pickled)


def _dump(value: object, shared: ResultWriter | None, max_payload: int) -> bytes | Stored:
    encoded = placeholder(value)
    try:
        return dump(encoded, (value,), shared, max_payload, None if encoded is value else encoded.likely_bytes)
    except TooLarge:
        if encoded is value:
            raise
        return dump(value, (value,), shared, max_payload)  # the limit counts what pickle makes, which may be less


def _refusal(value: object, error: BaseException, what: Side) -> TaskNotPicklable:
    """Say why a value can't be pickled. What is left of a call that nobody can make any more is closed."""
    path, reason = explain(value, what, error, search_s=SEARCH_IN_WORKER_S)
    values = (value, *value.values) if type(value) is GroupResult else (value,)
    unfinished = [each for each in values if type(each) in _UNFINISHED]
    if not unfinished or what != "result":
        return TaskNotPicklable(what, path, reason)
    for each in unfinished:
        if type(each) is CoroutineType:
            each.close()  # else Python warns that it was never awaited
    name, hint = _UNFINISHED[type(unfinished[0])]
    return TaskNotPicklable("result", "result", f"the function returned {name}", hint=hint)


_ASYNC_HINT = "async functions belong on the event loop: await it there, and give the pool a plain function"
#: What a function returns that is still to be run: what it is called, and what to do instead.
_UNFINISHED: dict[type, tuple[str, str]] = {
    CoroutineType: ("a coroutine", _ASYNC_HINT),
    AsyncGeneratorType: ("an asynchronous generator", _ASYNC_HINT),
    GeneratorType: ("a generator", "return a list: a generator can't leave the process that runs it"),
}


def encode_failure(error: BaseException, max_payload: int) -> bytes:
    """Pickle what a function raised; of what is above the limit, the parts that are not."""
    return encode_error(error, max_payload)


def decode_value(payload: memoryview) -> object:
    """Unpickle a result.

    Raises:
        TaskNotPicklable: If this process can't rebuild it.
    """
    try:
        return pickle.loads(payload, buffers=buffers_of(payload))
    except BaseException as error:
        reason = f"the server could not rebuild it: {reason_of(error)}"
        raise TaskNotPicklable("result", "result", reason) from error
