"""A function that is named as no function should be, and raises what it is given."""

from __future__ import annotations

from typing import NoReturn

MARKUP = "<img src=x onerror=alert(1)>"


def fail_oddly(message: str) -> NoReturn:
    raise ValueError(message)


fail_oddly.__name__ = fail_oddly.__qualname__ = MARKUP
globals()[MARKUP] = fail_oddly  # where pickle looks for it
