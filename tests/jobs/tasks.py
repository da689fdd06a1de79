"""Functions that tests run as jobs. Kept light: every worker imports this module."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifepool.jobs.progress import report_progress
from tests.tasks import hold as hold_at_gate


def add(one: int, other: int) -> int:
    return one + other


def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail(message: str) -> None:
    raise ValueError(message)


def echo(value: Any, *, again: bool = False) -> Any:
    return [value, value] if again else value


def crash() -> None:
    os._exit(3)


def make_set() -> Any:
    return Point(1, 2)


@dataclass(frozen=True)
class Point:
    x: int
    y: int


def hold(address: str, value: Any = None) -> Any:
    return hold_at_gate(address, value)


def run_twice(folder: str) -> str:
    """Fail the first time."""
    mark = Path(folder) / "ran"
    if not mark.exists():
        mark.touch()
        raise ValueError("the first time")
    return "the second time"


def hold_first_time(folder: str, address: str) -> str:
    """Wait the first time; return at once when it is run again."""
    mark = Path(folder) / "held"
    if mark.exists():
        return "again"
    mark.touch()
    hold_at_gate(address)
    return "first"


def report_and_hold(address: str) -> str:
    report_progress(3, 7, "three of seven", unit="steps")
    hold_at_gate(address)
    report_progress(7, 7, "done", unit="steps")
    return "done"


def done(document: dict[str, Any], folder: str = "") -> None:
    (Path(document["tags"][0]) / document["id"]).write_text(document["type"])


def never_done(document: dict[str, Any]) -> None:
    raise ValueError("not today")


def logged(folder: str, name: str, size: int = 0) -> str:
    """Write down that this has run to its end."""
    with open(f"{folder}/ran", "a") as file:
        file.write(f"{name}\n")
    return name + size * "x"


def work(folder: str, number: int, seconds: float) -> int:
    """Take a moment, and write down that this has run to its end."""
    time.sleep(seconds)
    with open(f"{folder}/ran{os.getpid()}", "a") as file:
        file.write(f"{number}\n")
    return number
