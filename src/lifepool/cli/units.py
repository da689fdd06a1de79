"""Format numbers for people: three significant digits, and a unit that fits."""

from __future__ import annotations

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def number_text(value: float) -> str:
    """Format three significant digits, without an exponent: ``0.123``, ``12.3``, ``1,230``."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"


def time_text(seconds: float) -> str:
    """Format a duration: ``1.23 ms``."""
    for size, unit in _TIMES:
        if abs(seconds) >= size:
            return f"{number_text(seconds / size)} {unit}"
    return "0 s" if seconds == 0 else f"{number_text(seconds / 1e-9)} ns"


def size_text(count: float) -> str:
    """Format a number of bytes: ``1.50 MiB``, ``2 GiB``."""
    for size, unit in _SIZES:
        if count >= size:
            value = count / size
            return f"{value:g} {unit}" if value == int(value) else f"{number_text(value)} {unit}"
    return f"{count:,.0f} bytes"
