"""Numbers for people: three digits, and a unit that fits."""

from __future__ import annotations

import time

NONE = "-"


def count(value: float | None) -> str:
    """Format a number: 12,345."""
    return NONE if value is None else f"{value:,.0f}"


def percent(part: float | None) -> str:
    """Format a percentage: 87 %; what is little is not nothing."""
    if part is None:
        return NONE
    return "< 1 %" if 0 < part < 0.01 else f"{part * 100:.0f} %"


def rate(value: float | None) -> str:
    """Format a rate: 1.25 /s."""
    return NONE if value is None else f"{_digits(value)} /s"


def seconds(value: float | None, none: str = NONE) -> str:
    """Format a duration: 85 µs, 1.25 ms, 3.50 s."""
    if value is None:
        return none
    if value == 0:
        return "0 ms"
    if value < 0.9995e-3:
        return f"{max(1.0, value * 1e6):.0f} µs"
    return f"{_digits(value * 1e3)} ms" if value < 0.9995 else f"{_digits(value)} s"


def below(value: float | None, shortest: float | None) -> str:
    """Format a percentile: of what is in the shortest class no more is known than that."""
    return f"< {seconds(shortest)}" if value is not None and shortest and value <= shortest else seconds(value)


def age(value: float | None) -> str:
    """Format an age: 4 s, 3 min, 2 h, 5 d."""
    if value is None:
        return NONE
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if value >= size:
            return f"{value / size:.0f} {unit}"
    return f"{max(0.0, value):.0f} s"


def memory(value: float | None) -> str:
    """Format a number of bytes: 14.9 MiB."""
    if value is None:
        return NONE
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if value >= size:
            return f"{_digits(value / size)} {unit}"
    return f"{value / 1024:.0f} KiB"


def clock(epoch: float) -> str:
    """Format an instant as local time: 14:03:27."""
    return time.strftime("%H:%M:%S", time.localtime(epoch))


def plain(text: str) -> str:
    """Remove what a terminal would obey from text of the user's program."""
    return "".join(character if character.isprintable() else "." for character in text)


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"
