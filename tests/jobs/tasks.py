"""Functions that tests run as jobs. Kept light: every worker imports this module."""

from __future__ import annotations

import time


def add(one: int, other: int) -> int:
    return one + other


def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
