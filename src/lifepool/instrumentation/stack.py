"""Find what blocks an event loop: look at its thread's stack from another thread, while it happens."""

from __future__ import annotations

import asyncio
import selectors
import sys
import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

_ASYNCIO = str(Path(asyncio.__file__).parent)
#: Where the loop itself is: it waits, or does its own work.
_THE_LOOP = (_ASYNCIO, selectors.__file__)
#: Where code that is not the user's own is.
_LIBRARIES = tuple(
    {
        str(Path(__file__).parents[1]),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)


@dataclass(frozen=True, slots=True)
class BlockingCall:
    """The call that an event loop was busy with.

    Attributes:
        function: The qualified name of the user's innermost function; of a library's, if there is none of the user's.
        file: Where it is.
        line: The line it was at.
        frames: The whole, without what is below the event loop, the innermost last.
    """

    function: str
    file: str
    line: int
    frames: tuple[traceback.FrameSummary, ...]

    @property
    def stack(self) -> str:
        """Return the frames with their source, as in a traceback."""
        return "".join(traceback.StackSummary.from_list(self.frames).format()).rstrip()

    @property
    def location(self) -> str:
        """Return the function, file and line, for messages."""
        return f"{self.function} ({self.file}:{self.line})"


def base_of_loop(frame: FrameType | None) -> int:
    """Return the identity of the frame that runs the loop, seen from a callback that the loop has called.

    Args:
        frame: The callback's caller.
    """
    while frame is not None and frame.f_code.co_name in ("_run", "_run_once") and _is_in(frame.f_code, _THE_LOOP):
        frame = frame.f_back  # of one turn of asyncio's loop; uvloop has no frames of its own
    return id(frame)


def find_blocking_call(thread: int, base: int) -> BlockingCall | None:
    """Return the call that blocks a loop; None if it waits for events, or gets no CPU.

    Nothing here lets go of the interpreter's lock, as reading a source file would: what blocks the loop may not
    give it back before all is over, and then there is nothing left to see.

    Args:
        thread: The loop's thread.
        base: From ``base_of_loop``.
    """
    frames: list[tuple[FrameType, int]] = []  # innermost first
    frame = sys._current_frames().get(thread)
    while frame is not None and id(frame) != base:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    while frames and frames[-1][0].f_code.co_filename.startswith(_ASYNCIO):
        frames.pop()
    if frame is None or not frames or all(_is_in(each.f_code, _THE_LOOP) for each, _ in frames):
        return None
    mine, line = next((pair for pair in frames if not _is_in(pair[0].f_code, _LIBRARIES)), frames[0])
    stack = tuple(_summary(each.f_code, at) for each, at in reversed(frames))
    return BlockingCall(mine.f_code.co_qualname, mine.f_code.co_filename, line, stack)


def _summary(code: CodeType, line: int) -> traceback.FrameSummary:
    return traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False)


def _is_in(code: CodeType, folders: tuple[str, ...]) -> bool:
    name = code.co_filename
    return name.startswith(folders) or name.startswith("<frozen")
