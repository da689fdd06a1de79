"""The tasks of the self-test. Workers import this module, so it imports nothing heavy."""

from __future__ import annotations

import itertools
import os
import signal


def pid() -> int:
    """Return the number of this process."""
    return os.getpid()


def echo(value: bytes) -> bytes:
    """Return the argument: it travels both ways."""
    return value


def die() -> None:
    """End as the kernel's out-of-memory killer ends a process."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Stay in one call into C, which looks at no signal and keeps the GIL, for ever."""
    sum(itertools.repeat(1))
