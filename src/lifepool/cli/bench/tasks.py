"""The functions that workers run. Workers import this module, so it imports nothing heavy."""

from __future__ import annotations

import os
import signal
from typing import TypeVar

T = TypeVar("T")


def noop() -> None:
    """Do nothing: what is left is the cost of the pool."""


def echo(value: T) -> T:
    """Return the argument: the payload travels both ways."""
    return value


def crash() -> None:
    """Kill this worker as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
