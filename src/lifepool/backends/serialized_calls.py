"""Turn calls and answers into bytes, for executors that send them to other processes.

Such an executor pickles and unpickles in threads of its own, which may end by what an object raises: a ``SystemExit``
in ``__reduce__`` stops it for ever, a ``__setstate__`` that raises breaks it, and all that it runs is lost. Of bytes
nothing is called. So both sides pickle here, where what an object raises is the error of its own task.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import TYPE_CHECKING, Any

from lifepool._transfer.context import call_in_copy
from lifepool._transfer.exceptions import PROTOCOL, decode_error, encode_error
from lifepool._usercode.display import reason_of
from lifepool._usercode.interrupts import is_from_signal, passed_on
from lifepool.errors import TaskNotPicklable

if TYPE_CHECKING:
    from lifepool.backends.base import PlainCall

#: A value or an error, pickled, and the seconds that the function ran.
Answer = tuple[bytes | None, bytes | None, float]


class SerializedCall:
    """The payload of a call that is pickled.

    Args:
        call: The call.

    Raises:
        TaskNotPicklable: If it can't be.
    """

    __slots__ = ("pickled", "size")
    shared = False

    def __init__(self, call: PlainCall) -> None:
        try:
            self.pickled: bytes = pickle.dumps((call.fn, call.args), PROTOCOL)
        except BaseException as error:
            if is_from_signal(error):
                raise
            raise TaskNotPicklable("arguments", "the call", reason_of(error)) from error
        self.size: int = len(self.pickled)


def run_serialized(pickled: bytes) -> Answer:
    """Make the call. Runs in the other process, and never raises."""
    try:
        fn, args = _unpacked(pickled)
        started = time.perf_counter()
        value = call_in_copy(fn, args)
        run_s = time.perf_counter() - started
        return _packed(value), None, run_s
    except BaseException as error:
        return None, encode_error(error), 0.0


def opened(answer: Answer) -> tuple[object, BaseException | None, float]:
    """Return the value, or the error, and the seconds that the function ran."""
    value, error, run_s = answer
    if error is not None:
        return None, decode_error(error), run_s
    assert value is not None  # noqa: S101 - one of them is there
    try:
        return pickle.loads(value), None, run_s
    except BaseException as failure:
        passed_on(failure, asyncio.get_running_loop())
        unreadable = TaskNotPicklable("result", "result", f"the server could not rebuild it: {reason_of(failure)}")
        unreadable.__cause__ = failure
        return None, unreadable, run_s


def _unpacked(pickled: bytes) -> Any:
    try:
        return pickle.loads(pickled)
    except BaseException as error:
        reason = f"the worker could not rebuild it: {reason_of(error)}"
        raise TaskNotPicklable("arguments", "the call", reason) from error


def _packed(value: object) -> bytes:
    try:
        return pickle.dumps(value, PROTOCOL)
    except BaseException as error:
        raise TaskNotPicklable("result", "result", reason_of(error)) from error
