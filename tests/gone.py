"""Waiting for processes that are not our children to be gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICK_S = 0.005  # a process that is not our child offers nothing to wait on


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended. One that only waits to be reaped has: that is up to the system, which takes its time."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def still_there(processes: Iterable[psutil.Process], within: float) -> list[psutil.Process]:
    """Wait until processes are gone; return those that are not after so many seconds."""
    deadline = time.monotonic() + within
    while (left := [process for process in processes if not is_gone(process)]) and time.monotonic() < deadline:
        time.sleep(_TICK_S)
    return left
