"""Objects whose code raises what would end a program: while they are pickled, or rebuilt in another process."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, NoReturn

from lifepool import report_progress


class OwnBase(BaseException):
    pass


HOW: dict[str, BaseException] = {
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt("pressed by code"),
    "GeneratorExit": GeneratorExit(),
    "StopIteration": StopIteration(1),
    "CancelledError": asyncio.CancelledError(),
    "OwnBase": OwnBase("own"),
}


def leave(how: str) -> NoReturn:
    """Raise it; a fresh one each time."""
    error = HOW[how]
    raise type(error)(*error.args)


def leave_for_two(argument: tuple[str, int]) -> int:
    how, number = argument
    if number == 2:
        leave(how)
    return number


def leave_in_batch(arguments: list[tuple[str, int]]) -> list[int]:
    return [leave_for_two(each) for each in arguments]


class LeavesWhenPickled:
    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> NoReturn:
        leave(self.how)


class LeavesElsewhere:
    """Can be rebuilt in the process that made it, and in no other."""

    def __init__(self, how: str, size: int = 0) -> None:
        self.how = how
        self.size = size

    def __reduce__(self) -> tuple[object, ...]:
        return rebuild, (self.how, os.getpid(), bytes(self.size))


def rebuild(how: str, home: int, _: bytes) -> LeavesElsewhere:
    if os.getpid() != home:
        leave(how)
    return LeavesElsewhere(how)


def make_leaving(how: str, size: int) -> LeavesElsewhere:
    return LeavesElsewhere(how, size)


def make_leaving_when_pickled(how: str) -> LeavesWhenPickled:
    return LeavesWhenPickled(how)


def report_leaving(how: str) -> str:
    report_progress(LeavesElsewhere(how))
    return "done"


def report_leaving_when_pickled(how: str) -> None:
    report_progress(LeavesWhenPickled(how))


class PressesCtrlC:
    """A Ctrl-C strikes while it is rebuilt in another process than the one that made it."""

    def __reduce__(self) -> tuple[object, ...]:
        return press_elsewhere, (os.getpid(),)


class PressesCtrlCWhenPickled:
    def __reduce__(self) -> tuple[object, ...]:
        signal.raise_signal(signal.SIGINT)
        return str, ()


def press_elsewhere(home: int) -> Any:
    if os.getpid() != home:
        signal.raise_signal(signal.SIGINT)
    return PressesCtrlC()


def make_pressing() -> PressesCtrlC:
    return PressesCtrlC()
