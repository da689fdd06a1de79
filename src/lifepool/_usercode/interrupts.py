"""Distinguish a Ctrl-C of the user from a ``KeyboardInterrupt`` or ``SystemExit`` that somebody's code raised.

While lifepool pickles, unpickles or calls hooks it runs code of others, and what that raises is the error of one task
or one hook, whatever its class. But a signal may strike just then, and what its handler raises is meant for the whole
program. Handlers run in the main thread only, and are found again in the traceback (decision 25).
"""

from __future__ import annotations

import opcode
import signal
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_RAISE = opcode.opmap["RAISE_VARARGS"]


class EventLoop(Protocol):
    """An event loop, as far as it is needed here; code that runs in a worker does without ``asyncio``."""

    def call_soon(self, callback: Callable[..., object], /, *args: Any) -> object:
        """Call back in the next turn."""


def is_from_signal(error: BaseException) -> bool:
    """Return whether a signal handler raised it; never fails."""
    if issubclass(type(error), Exception) or threading.current_thread() is not threading.main_thread():
        return False
    try:
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        codes = {code for handler in handlers.values() if (code := _code_of(handler)) is not None}
        where: Any = vars(BaseException)["__traceback__"].__get__(error)
        last = None
        while where is not None:
            if where.tb_frame.f_code in codes:
                return True
            last, where = where, where.tb_next
        # Python's own handler is written in C and has no frame: its exception comes out of the middle of a statement.
        return (
            type(error) is KeyboardInterrupt
            and handlers.get(signal.SIGINT) is signal.default_int_handler
            and (last is None or last.tb_frame.f_code.co_code[last.tb_lasti] != _RAISE)
        )
    except Exception:
        return False


def passed_on(error: BaseException | None, loop: EventLoop) -> bool:
    """Have the event loop raise what a signal handler raised, in a turn of its own; return whether it was one.

    It may strike in the middle of a change of our state: that is finished first.
    """
    if error is None or not is_from_signal(error):
        return False
    loop.call_soon(_raise, error)
    return True


def _raise(error: BaseException) -> None:
    raise error


def _code_of(handler: Any) -> CodeType | None:
    while hasattr(handler, "func"):  # asyncio's is a partial
        handler = handler.func
    code: CodeType | None = getattr(handler, "__code__", None)
    return code or getattr(getattr(type(handler), "__call__", None), "__code__", None)  # noqa: B004 - its code is wanted
