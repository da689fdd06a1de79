"""What takes long: it runs on the workers."""

from __future__ import annotations

import time


def total(prices: list[float], seconds: float = 0.0) -> float:
    """Add up prices, and take so many seconds for it."""
    time.sleep(seconds)
    return sum(prices)
