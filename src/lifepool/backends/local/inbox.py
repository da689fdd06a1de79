"""What a worker says, in the order it said it, though some of it takes a while to read.

Big results are read in a thread. What the same worker says meanwhile waits: its results must be counted in order (see
``shared/arena.py``), and its end is not reported before its answers. Other workers are not concerned.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from lifepool._core.framing import BUFFER_BYTES, Frame, FramingError, Kind
from lifepool._transfer.exceptions import decode_error
from lifepool._usercode.interrupts import passed_on
from lifepool.backends.local.codec.answers import decode_value
from lifepool.backends.local.codec.out_of_band import buffers_of
from lifepool.backends.local.codec.thread_safe import PlainUnpickler
from lifepool.backends.local.copy_threads import OFF_LOOP_BYTES
from lifepool.backends.local.shared.copying import PickleFile
from lifepool.errors import TaskError, TaskNotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.guard import Guard
    from lifepool.backends.local.copy_threads import CopyThreads
    from lifepool.backends.local.shared.results import ResultReader

_ANSWERS = frozenset({int(Kind.RESULT), int(Kind.ERROR), int(Kind.RESULT_STORED)})


class _Unreadable:
    """In place of a value: it could not be read off the loop."""


class Inbox:
    """One worker's frames.

    Args:
        results: Where its big results are, if it has shared memory.
        threads: The threads that read them.
        on_frame: Called with each frame that had to wait.
        on_answer: Called with a frame, the value, the error and the size in bytes of each result in shared memory.
        on_invalid: Called with the reason if what waited turns out to be nonsense.
        guard: Put around what the loop calls.
    """

    def __init__(
        self,
        results: ResultReader | None,
        threads: CopyThreads,
        *,
        on_frame: Callable[[Frame], None],
        on_answer: Callable[[Frame, Any, BaseException | None, int], None],
        on_invalid: Callable[[str], None],
        guard: Guard,
    ) -> None:
        self._results = results
        self._threads = threads
        self._on_frame = on_frame
        self._on_answer = on_answer
        self._on_invalid = on_invalid
        self._when_read = guard(self._was_read)
        self._reading: tuple[Frame, memoryview] | None = None
        self._waiting: deque[Frame] = deque()
        self._unwanted: set[int] = set()
        self._when_empty: Callable[[], None] | None = None
        self._is_closed = False

    @property
    def is_reading(self) -> bool:
        """Whether a result is being read: all frames must wait (``keep``)."""
        return self._reading is not None

    def keep(self, frame: Frame) -> None:
        """Let a frame wait for its turn."""
        self._waiting.append(_lasting(frame))

    def read(self, frame: Frame) -> None:
        """Read a result in shared memory: at once if it is small, else in a thread.

        Raises:
            FramingError: If there is no such result.
        """
        if self._results is None:
            raise FramingError("a result in shared memory, and there is none")
        pickled = self._results.part(frame.payload)
        if len(pickled) >= OFF_LOOP_BYTES and frame.task not in self._unwanted:
            self._reading = _lasting(frame), pickled
            self._threads.run(partial(_read_off_loop, pickled, self._threads), self._when_read, otherwise=_Unreadable)
        else:
            self._finish(frame, pickled, _Unreadable)

    def abandon_answer(self, task: int) -> Frame | None:
        """Drop this task's answer, which nobody wants; return it if it is here and was not delivered."""
        frames = [self._reading[0], *self._waiting] if self._reading is not None else []
        for frame in frames:
            if frame.task == task and frame.kind in _ANSWERS and task not in self._unwanted:
                self._unwanted.add(task)
                return frame
        return None

    def is_unwanted(self, task: int) -> bool:
        """Return whether this answer was abandoned; it is then forgotten."""
        if task in self._unwanted:
            self._unwanted.remove(task)
            return True
        return False

    def when_empty(self, action: Callable[[], None]) -> None:
        """Call ``action`` once all frames were delivered; at once if none waits."""
        if self._reading is None:
            action()
        else:
            self._when_empty = action

    def close(self) -> None:
        """Forget all that waits. The threads must have ended."""
        self._is_closed = True
        if self._reading is not None:
            self._reading[1].release()
        self._waiting.clear()

    def _was_read(self, value: Any) -> None:
        if self._is_closed or self._reading is None:
            return
        frame, pickled = self._reading
        self._finish(frame, pickled, value)
        self._reading = None
        while self._waiting and not self.is_reading:
            frame = self._waiting.popleft()
            if frame.kind != Kind.RESULT_STORED and frame.kind in _ANSWERS and self.is_unwanted(frame.task):
                continue
            try:
                self._on_frame(frame)
            except FramingError as error:
                self._waiting.clear()
                self._on_invalid(str(error))
        if not self.is_reading and self._when_empty is not None:
            self._when_empty()

    def _finish(self, frame: Frame, pickled: memoryview, value: Any) -> None:
        """Take a result that was read, or read it here and now."""
        error: TaskNotPicklable | None = None
        unwanted = self.is_unwanted(frame.task)
        with pickled:
            size = len(pickled)
            if value is _Unreadable and not unwanted:
                value, error = decoded(pickled)
        assert self._results is not None  # noqa: S101 - it came from there
        self._results.consumed()
        if not unwanted:
            self._on_answer(frame, value, error, size)


def decoded(pickled: memoryview) -> tuple[object, TaskNotPicklable | None]:
    """Return the value, or why there is none."""
    try:
        return decode_value(pickled), None
    except TaskNotPicklable as failure:
        passed_on(failure.__cause__, asyncio.get_running_loop())
        return None, failure


def decoded_error(pickled: memoryview) -> BaseException:
    """Rebuild what a task raised."""
    error = decode_error(pickled)
    if type(error) is TaskError:  # it could not be rebuilt
        passed_on(error.__context__, asyncio.get_running_loop())
    return error


def _read_off_loop(pickled: memoryview, threads: CopyThreads) -> Any:
    """Read it, in a thread. Raises if the value is not plain, or broken: the loop finds out which."""
    file: Any = PickleFile(pickled, off_loop=True, may_go_on=threads.may_go_on)
    return PlainUnpickler(file, buffers=buffers_of(pickled)).load()


def _lasting(frame: Frame) -> Frame:
    """Return the frame with a payload that stays as it is; large ones have memory of their own already."""
    if len(frame.payload) > BUFFER_BYTES:
        return frame
    return frame._replace(payload=memoryview(bytes(frame.payload)))
