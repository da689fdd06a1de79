"""Text from the user's program, made safe to keep: bounded, and never an exception."""

from __future__ import annotations

import reprlib
import traceback
from typing import TYPE_CHECKING

from lifepool.carrying import story_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAME = 160
MAX_MESSAGE = 400
MAX_TRACEBACK = 8_000
MAX_ARGUMENTS = 300

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel = 3


def clipped(text: str, limit: int) -> str:
    """The text, or its beginning and end: what was called is at one, what was raised at the other."""
    if len(text) <= limit:
        return text
    head = limit // 3
    return f"{text[:head]} … {len(text) - limit:,} characters left out … {text[-(limit - head) :]}"


def message_of(error: BaseException) -> str:
    """What the error says."""
    try:
        return clipped(str(error), MAX_MESSAGE)
    except Exception:
        return "<its str() raises>"


def traceback_of(error: BaseException) -> str | None:
    """The worker's traceback, which is the error's cause; where there was no other process, its own."""
    try:
        found = story_of(error) or getattr(error.__cause__, "tb", None)  # lifepool's, concurrent.futures'
        if not isinstance(found, str) and error.__traceback__ is not None:
            found = "".join(traceback.format_exception(error, limit=-30))
    except Exception:
        return None
    return clipped(found.strip('\n"'), MAX_TRACEBACK) if isinstance(found, str) else None


def arguments_of(args: Sequence[object]) -> str:
    """The arguments of a call, each shortened."""
    shown = []
    for arg in args[:8]:
        try:
            shown.append(_short.repr(arg))
        except Exception:
            shown.append(f"<{type(arg).__name__}>")
    more = [f"… {len(args) - 8} more"] if len(args) > 8 else []
    return clipped(", ".join(shown + more), MAX_ARGUMENTS)
