"""Make text from the user's program safe to keep and to show: bounded, and never an exception."""

from __future__ import annotations

import reprlib
import traceback
import unicodedata
from typing import TYPE_CHECKING

from lifepool._transfer.exceptions import worker_traceback
from lifepool.dashboard.verdict import last_line
from lifepool.errors import WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAME = 160
MAX_MESSAGE = 400
MAX_TRACEBACK = 8_000
MAX_ARGUMENTS = 300

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel = 3


#: What no text that is shown may do: control the terminal, turn the direction of what follows (U+202E), be no
#: character at all, or begin a line where none should.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """Write characters that can't be seen, or change how others are, as escapes."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in _UNSEEN else _escaped(letter)
        for letter in text
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def shown_name(name: str) -> str:
    """Return the name of something, on one line and of bounded length."""
    name = name[:MAX_NAME]
    return name if name.isprintable() else visible(name).replace("\n", "\\n").replace("\t", "\\t")[:MAX_NAME]


def clipped(text: str, limit: int) -> str:
    """Return the text, or its beginning and end: the call is at one, the error at the other."""
    if len(text) <= limit:
        return visible(text)
    head = limit // 3
    return f"{visible(text[:head])} … {len(text) - limit:,} characters left out … {visible(text[-(limit - head) :])}"


def message_of(error: BaseException) -> str:
    """Return what the error says: of a worker that could not start what was raised there, not the first line."""
    try:
        if isinstance(error, WorkerStartError):
            return clipped(f"a worker could not start: {last_line(error.cause)}", MAX_MESSAGE)
        return clipped(str(error), MAX_MESSAGE)
    except Exception:
        return "<its str() raises>"


def traceback_of(error: BaseException) -> str | None:
    """Return the worker's traceback, which is the error's cause; without another process, the error's own."""
    if isinstance(error, WorkerStartError):
        return clipped(error.cause.strip("\n"), MAX_TRACEBACK)
    try:
        found = worker_traceback(error) or getattr(error.__cause__, "tb", None)  # lifepool's, concurrent.futures'
        if not isinstance(found, str) and error.__traceback__ is not None:
            found = "".join(traceback.format_exception(error, limit=-30))
    except Exception:
        return None
    return clipped(found.strip('\n"'), MAX_TRACEBACK) if isinstance(found, str) else None


def arguments_of(args: Sequence[object]) -> str:
    """Return the arguments of a call as text, each shortened."""
    shown = []
    for arg in args[:8]:
        try:
            shown.append(_short.repr(arg))
        except Exception:
            shown.append(f"<{type(arg).__name__}>")
    more = [f"… {len(args) - 8} more"] if len(args) > 8 else []
    return clipped(", ".join(shown + more), MAX_ARGUMENTS)
