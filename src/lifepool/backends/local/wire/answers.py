"""Values on the wire: what functions return. (What they raise: ``lifepool.carrying``.)."""

from __future__ import annotations

import pickle

from lifepool.backends.local.wire.diagnosis import explain
from lifepool.errors import PayloadTooLarge, TaskNotPicklable

PROTOCOL = 5


def encode_value(value: object, max_payload: int) -> bytes:
    """Pickle what a function returned.

    Raises:
        TaskNotPicklable: Naming the part that can't be pickled.
        PayloadTooLarge: If it is above the limit.
    """
    try:
        pickled = pickle.dumps(value, PROTOCOL)
    except Exception as error:
        path, reason = explain(value, "result", error)
        raise TaskNotPicklable("result", path, reason) from None
    if len(pickled) > max_payload:
        raise PayloadTooLarge("result", len(pickled), max_payload)
    return pickled


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
