"""What the stress run has workers do. Light: every worker imports this module.

Each function first writes its task's number into the run's log, so that the accountant can tell how often a task was
really started. The log is opened once in each worker, by the initializer.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import struct
import sys
import threading
import time
from typing import Any, NoReturn

ENDLESS_S = 10_000.0
NUMBER = struct.Struct("<Q")

_log = -1


def open_log(path: str) -> None:
    """Open the log: the initializer of the pool under stress."""
    global _log
    _log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def started(number: int) -> None:
    """Log a start: one write of eight bytes in append mode, which no two workers can mix."""
    os.write(_log, NUMBER.pack(number))


# --- those that answer ----------------------------------------------------------------------------


def double(number: int) -> int:
    started(number)
    return 2 * number


def double_slowly(number: int, seconds: float) -> int:
    started(number)
    time.sleep(seconds)
    return 2 * number


def work(number: int, turns: int) -> int:
    started(number)
    total = 0
    for turn in range(turns):
        total += turn
    return total


def swap(number: int, payload: bytes, answer_bytes: int) -> tuple[int, bytes]:
    """Take much and return much: the length of the argument, and a pattern."""
    started(number)
    return len(payload), pattern(number, answer_bytes)


def pattern(number: int, size: int) -> bytes:
    """Return bytes that only this number has, quickly made and quickly compared."""
    unit = NUMBER.pack(number) * 512
    return (unit * (size // len(unit) + 1))[:size]


def fail_once(number: int, mark: str) -> int:
    started(number)
    if not os.path.exists(mark):
        with open(mark, "x"):
            raise OSError("the first try")
    os.unlink(mark)
    return 2 * number


# --- those that fail ------------------------------------------------------------------------------


def fail(number: int) -> NoReturn:
    started(number)
    raise ValueError(number)


def exit_softly(number: int) -> NoReturn:
    started(number)
    sys.exit(number)


def return_a_lock(number: int) -> Any:
    started(number)
    return {"held": threading.Lock()}


def take_too_much(number: int, size: int) -> int:
    started(number)
    return len(bytearray(size))


def fail_for_multiples(pair: tuple[int, int]) -> int:
    """Run one item of a map: (number of the item, divisor; 0 for an item that never fails)."""
    number, divisor = pair
    started(number)
    if divisor and number % divisor == 0:
        raise ValueError(number)
    return 2 * number


# --- those that kill their worker -----------------------------------------------------------------


def exit_hard(number: int, code: int) -> NoReturn:
    started(number)
    os._exit(code)


def read_null(number: int) -> None:
    started(number)
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # no report of faulthandler's in the run's output
    ctypes.string_at(0)


def abort(number: int) -> None:
    started(number)
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.abort()


# --- those that do not end ------------------------------------------------------------------------


def hang_in_python(number: int) -> None:
    started(number)
    while True:
        pass


def hang_in_sleep(number: int) -> None:
    started(number)
    time.sleep(ENDLESS_S)


def hang_in_c(number: int) -> None:
    """Keep the GIL and look at no signal."""
    started(number)
    sum(itertools.repeat(0))


def hang_deaf(number: int) -> None:
    """Hang with every signal blocked that can be."""
    started(number)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(ENDLESS_S)


def hang_stubbornly(number: int) -> None:
    """Hang, and swallow what is raised in it."""
    started(number)
    while True:
        try:
            time.sleep(ENDLESS_S)
        except BaseException:
            continue
