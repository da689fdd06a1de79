"""Make texts for people of values that may refuse to be shown, or that are very long.

A message must not fail, and not grow, because of what it is about: ``str()`` and ``repr()`` run somebody else's code.
"""

from __future__ import annotations

import reprlib

#: Characters of a reason in one of our messages: room for a sentence and a name, not for a document.
MAX_REASON_CHARS = 400

#: Members of a set that are sorted to show some of them.
_MOST_SORTED = 100


class _Repr(reprlib.Repr):
    """Look at a few parts only; lets through what a ``repr()`` raises."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = self.maxlong = 60

    def repr1(self, value: object, level: int) -> str:
        if isinstance(value, (set, frozenset, dict)) and len(value) > _MOST_SORTED:
            return f"<{class_name(value)} of {len(value)}>"
        return super().repr1(value, level)

    def repr_instance(self, value: object, level: int) -> str:
        return repr(value)


_repr = _Repr()


def text_of(value: object) -> str:
    """Return ``str(value)``; never fails."""
    try:
        return str(value)
    except BaseException:
        return f"<{class_name(value)} whose str() raises>"


def shown(value: object) -> str:
    """Return ``repr(value)``, cut to some sixty characters, of large containers the beginning only; never fails."""
    try:
        return cut(_repr.repr(value), 60)
    except BaseException:
        return f"<{class_name(value)}>"


def reason_of(error: BaseException) -> str:
    """Return an exception's class and text, cut to a length that fits into a message; never fails."""
    try:
        text = str(error)
    except BaseException:
        return class_name(error)
    return f"{class_name(error)}: {cut(text, MAX_REASON_CHARS)}"


def class_name(value: object) -> str:
    """Return the name of a value's class, whatever its metaclass says; never fails."""
    try:
        return str(type.__dict__["__qualname__"].__get__(type(value)))
    except BaseException:
        return "object"


def cut(text: str, most: int) -> str:
    """Return the text; if it has more than ``most`` characters, its beginning and its end."""
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
