"""Report how far the running task is: from ``report_progress``, in whatever thread, onto the wire.

What comes first leaves at once. What follows within ``PROGRESS_EVERY_S`` waits, and only the latest of it leaves: when
that time is over, or at the latest before the task's answer. So the last report always arrives.

Threads
    A thread reports for the task in which it was started, while that runs; one that was started before the first task
    reports for whichever runs. What is left over of an earlier task is not heard.

    A frame must not be torn by another. The main thread answers without a lock as long as no other thread has ever
    reported. One that does takes the lock first and looks then whether its task still runs; the main thread says that
    it does not before it looks for the lock.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING

from lifepool._core.framing import Kind, header
from lifepool.backends.local.codec.answers import encode_value

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

#: Progress reports closer together than this many seconds are thinned out.
PROGRESS_EVERY_S = 0.01

NO_TASK = 0
_ANY_TASK = -1
_OWNER = "_lifepool_task"


class Reporter:
    """Send a worker's reports.

    Args:
        wire: The socket for answers.
        max_payload: Limit of a pickled value in bytes.
        current: The number of the task that runs, or ``NO_TASK``.
        interrupt: Looks for an interrupt that came while a frame was being written.

    Attributes:
        late: The latest value that was not sent, and its task's number; None if there is none.
        is_writing: Whether the main thread is writing a frame: an interrupt must not split it.
        send: Writes to the wire.
    """

    def __init__(
        self,
        wire: socket.socket,
        max_payload: int,
        current: Callable[[], int],
        interrupt: Callable[[], None],
    ) -> None:
        self.late: tuple[int, object] | None = None
        self.is_writing: bool = False
        self.send: Callable[[bytes], None] = wire.sendall
        self._wire = wire
        self._max_payload = max_payload
        self._current = current
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._sent_at = 0.0
        self._is_timed = False

    def report(self, value: object) -> None:
        """Report how far the caller's task is; nothing happens if that does not run.

        Raises:
            TaskNotPicklable: If the value can't be sent.
            PayloadTooLarge: If it is above the limit.
        """
        task = self._current()
        if task == NO_TASK or self._task_of_caller() not in (task, _ANY_TASK):
            return
        now = time.monotonic()
        if now - self._sent_at < PROGRESS_EVERY_S:
            self.late = (task, value)
            self._send_in_time()
            return
        self._sent_at = now
        self.late = None
        self._write(task, self._encoded(value))

    def send_late(self, task: int) -> None:
        """Send what this task reported last, if that was not sent. Called between the task's end and its answer.

        Raises:
            TaskNotPicklable: If the value can't be sent.
            PayloadTooLarge: If it is above the limit.
        """
        late, self.late = self.late, None
        if late is not None and late[0] == task:
            body = self._encoded(late[1])
            self.send(header(Kind.PROGRESS, len(body), task) + body)

    def belongs_to_starter(self) -> None:
        """Have each thread belong to the task in which it is started, from now on."""
        start, task_of_starter = threading.Thread.start, self._task_of_caller

        def started_by_task(thread: threading.Thread) -> None:
            setattr(thread, _OWNER, task_of_starter())
            start(thread)

        functools.update_wrapper(started_by_task, start)
        threading.Thread.start = started_by_task  # type: ignore[assignment, method-assign]

    def _task_of_caller(self) -> int:
        if threading.current_thread() is threading.main_thread():
            return self._current()
        # A thread that threading does not know, such as one of a C library, can only be asked by the running task.
        owner: int = getattr(threading.current_thread(), _OWNER, _ANY_TASK)
        return owner

    def _encoded(self, value: object) -> bytes:
        return encode_value(value, self._max_payload, "progress")

    def _write(self, task: int, body: bytes) -> None:
        frame = header(Kind.PROGRESS, len(body), task) + body
        if threading.current_thread() is threading.main_thread():
            self.undisturbed(lambda: self._send_locked(frame))
        else:
            self._write_beside(task, frame)

    def _write_beside(self, task: int, frame: bytes) -> None:
        """Write in another thread than the main one."""
        self.send = self._send_locked
        with self._lock:
            if self._current() == task:
                self._wire.sendall(frame)

    def _send_locked(self, data: bytes) -> None:
        with self._lock:
            self._wire.sendall(data)

    def undisturbed(self, action: Callable[[], None]) -> None:
        """Do something in the main thread, and look for an interrupt after it."""
        self.is_writing = True
        try:
            action()
        finally:
            self.is_writing = False
        self._interrupt()

    def _send_in_time(self) -> None:
        """Have what is late sent soon, should nothing come that takes it along."""
        if self._is_timed:
            return
        if threading.current_thread() is threading.main_thread():
            self.undisturbed(self._start_timer)
        else:
            self._start_timer()

    def _start_timer(self) -> None:
        timer = threading.Timer(PROGRESS_EVERY_S, self._on_time)
        timer.daemon = True
        self._is_timed = True
        try:
            timer.start()
        except RuntimeError:  # no thread to be had: it is sent before the answer
            self._is_timed = False

    def _on_time(self) -> None:
        """Send what is late, in a thread of its own."""
        self._is_timed = False  # first: what is reported after the next line needs another one
        late = self.late
        if late is None or late[0] != self._current():
            return
        try:
            body = self._encoded(late[1])
        except Exception:  # the task may be changing it; if it can't be sent at all, that is reported before the answer
            return
        self.send = self._send_locked
        with contextlib.suppress(OSError), self._lock:  # OSError: the server is gone
            if self.late is not late or self._current() != late[0]:
                return  # a later one was sent meanwhile, or waits with a timer of its own
            self._wire.sendall(header(Kind.PROGRESS, len(body), late[0]) + body)
        self._sent_at = time.monotonic()
        if self.late is late:
            self.late = None
