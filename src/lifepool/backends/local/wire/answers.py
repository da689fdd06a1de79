"""Answers on the wire: what functions return, and what they raise (that is made by ``lifepool.carrying``)."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from lifepool._core.framing import Kind
from lifepool.backends.local.wire.diagnosis import explain
from lifepool.backends.local.wire.sink import TooLarge, dump
from lifepool.backends.local.wire.text import stand_in
from lifepool.carrying import encode_error
from lifepool.errors import PayloadTooLarge, Side, TaskNotPicklable

if TYPE_CHECKING:
    from lifepool.backends.local.wire.arena import ResultWriter

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
        pickled = dump(stand_in(value), (value,), shared, max_payload)
    except TooLarge as error:
        raise PayloadTooLarge(what, error.size, max_payload) from None
    except Exception as error:
        path, reason = explain(value, what, error)
        raise TaskNotPicklable(what, path, reason) from None
    if isinstance(pickled, bytes):
        return Kind.RESULT, pickled
    assert shared is not None  # noqa: S101 - or it would not be there
    return Kind.RESULT_STORED, shared.hand_over(pickled)


def encode_failure(error: BaseException, max_payload: int) -> bytes:
    """Pickle what a function raised or, if that is above the limit, that it is."""
    body = encode_error(error)
    if len(body) > max_payload + ENVELOPE_BYTES:
        body = encode_error(PayloadTooLarge("result", len(body), max_payload).with_traceback(error.__traceback__))
    return body


def decode_value(payload: memoryview) -> object:
    """Unpickle a result.

    Raises:
        TaskNotPicklable: If this process can't rebuild it.
    """
    try:
        return pickle.loads(payload)
    except Exception as error:
        reason = f"the server could not rebuild it: {type(error).__name__}: {error}"
        raise TaskNotPicklable("result", "result", reason) from error
