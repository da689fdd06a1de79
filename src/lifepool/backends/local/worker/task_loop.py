"""A worker's loop: take a ticket, run the task it names, answer.

Theory of operation
    Tasks arrive early: while one runs, the next is already there, in one of the *cells* of a shared memory or, if it
    is larger, on the *wire*. What entitles the worker to run a task is its *ticket*, sixteen bytes on a second socket
    that also say where the task is. The server can read the same end of that socket, and so take tickets back; whoever
    has read a ticket owns the task, and the kernel sees to it that only one of them can have. A task on the wire whose
    ticket was taken back is passed over here when its turn comes.

    Waiting for a ticket is the only point where a worker waits without a task. The end of that stream means that the
    server lets it go, or is gone.

Interrupts
    The server writes the number of the task into the control pipe and then sends ``INTERRUPT``. The handler raises
    ``TaskInterrupted`` if that task is running at that moment, and does nothing otherwise: a late signal can't hit the
    next task. It raises at most once a task, which is what makes the two levels of ``try`` below enough.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

from lifepool._core.framing import Frame, FrameReader, Kind, header
from lifepool._host.memory import resident_bytes
from lifepool._inside import state
from lifepool._inside.state import TaskInterrupted
from lifepool._transfer import constants
from lifepool._transfer.context import call, with_own_decimals
from lifepool.backends.local.codec.answers import encode_failure, encode_result
from lifepool.backends.local.codec.calls import CallDecoder
from lifepool.backends.local.shared.cells import CELL_BYTES, NUMBER, ON_WIRE, TICKET
from lifepool.backends.local.worker.descendants import end_started_since, keep_what_is_there
from lifepool.backends.local.worker.imports import watch_imports
from lifepool.backends.local.worker.main_module import seek_main
from lifepool.backends.local.worker.reporting import NO_TASK, Reporter
from lifepool.backends.local.worker.signals import INTERRUPT
from lifepool.backends.local.worker.tickets import Tickets
from lifepool.errors import PayloadTooLarge, TaskNotPicklable

if TYPE_CHECKING:
    import socket

    from lifepool.backends.local.shared.argument_views import Views
    from lifepool.backends.local.shared.files import Location
    from lifepool.backends.local.shared.results import ResultWriter
    from lifepool.backends.local.worker.startup import WorkerSpec

#: Answers up to this size are joined with their header into one write; larger ones are not worth the copy.
_JOIN_BYTES = 64 * 1024

_TASK_VIEWED = int(Kind.TASK_VIEWED)


class ServerGone(ConnectionError):
    """The stream ended in the middle of something."""


class Worker:
    """Serves tasks until its ticket stream ends.

    Args:
        wire: The socket for tasks and answers.
        tickets: The socket for tickets.
        control: The pipe that says which task an interrupt is meant for.
        spec: What it is to be.
        cells: Where small tasks are.
        arguments: Where big arguments are.
        results: Where big results go.
        views: Makes views of big arguments that are not to be copied.
    """

    def __init__(
        self,
        wire: socket.socket,
        tickets: socket.socket,
        control: int,
        spec: WorkerSpec,
        cells: memoryview | None = None,
        arguments: Location | None = None,
        results: ResultWriter | None = None,
        views: Views | None = None,
    ) -> None:
        self._wire = wire
        self._tickets = tickets
        self._control = control
        self._spec = spec
        self._cells = cells
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque()
        self._views = views
        self._keeps_views = False
        self._decoder = CallDecoder(arguments, None if views is None else views.open, self._seek_main)
        self._results = results
        self._current = NO_TASK
        self._taken = NO_TASK  # the last one whose ticket was taken
        self._loading = False  # the server knows that modules are imported for it
        self._was_interrupted = False
        self._perform_alone = self._perform
        self._pid = os.getpid()
        os.set_blocking(control, False)
        state.current_task = lambda: self._current
        self._reporter = Reporter(wire, spec.max_payload, state.current_task, self._look_for_interrupt)
        state.progress_sink = self._reporter.report

    def prime(self, functions: tuple[bytes, ...]) -> None:
        """Import what will be called, before there is a task that would wait for it."""
        self._decoder.prime(functions)

    def _seek_main(self) -> str | None:
        hint = seek_main(self._spec.main)
        self.install_interrupt()  # an import may have taken it
        return hint

    def install_interrupt(self) -> None:
        """Make this process listen to ``INTERRUPT``."""
        signal.signal(INTERRUPT, self._on_interrupt)

    def serve(self) -> None:
        """Run tasks until the server lets us go.

        Raises:
            ConnectionError: If the server went away.
        """
        take = Tickets(self._tickets, may_poll=self._spec.may_poll).take
        size, unpack, cells = TICKET.size, TICKET.unpack, self._cells
        watch_imports(self._tell_loading)
        # What the initializer and the imports have set in the context is there already, and nothing is added to it.
        self._perform_alone = with_own_decimals(self._perform)
        self._reporter.belongs_to_starter()
        keep_what_is_there()
        while len(ticket := take()) == size:
            task, cell, kind, function_length, length = unpack(ticket)
            if cells is None or cell == ON_WIRE:
                frame = self._frame(task)
                self._run(task, frame.kind, frame.extra, frame.payload)
            else:
                start = cell * CELL_BYTES
                self._run(task, kind, function_length, cells[start : start + length])

    def _frame(self, task: int) -> Frame:
        """Return the task's frame. The ones before it are constants, or were taken back."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.task == task:
                    return frame
                if frame.kind == Kind.CONSTANT:
                    constants.receive(frame.extra, bytes(frame.payload))
                elif frame.kind == Kind.FORGET:
                    constants.forget(frame.extra)
            count = self._wire.recv_into(self._reader.buffer())
            if not count:
                raise ServerGone
            self._frames.extend(self._reader.received(count))

    def _run(self, task: int, kind: int, function_length: int, payload: memoryview) -> None:
        # What belongs to the user runs in there: rebuilding the arguments, the function, pickling its result.
        perform = self._perform_alone
        answer, began_ns, run_ns, body = copy_context().run(perform, task, kind, function_length, payload)
        if os.getpid() != self._pid:
            os._exit(0)  # the task forked and let the child return: only the parent may answer
        if self._was_interrupted:
            self._was_interrupted = False
            end_started_since(began_ns)
        if kind == _TASK_VIEWED or self._keeps_views:
            self._tell_released()
        self._answer(answer, task, run_ns, body)

    def _perform(self, task: int, kind: int, function_length: int, payload: memoryview) -> tuple[Kind, int, int, bytes]:
        """Call the function; when this returns, nothing here holds its arguments any more.

        Returns:
            The kind of answer, when the function began, the nanoseconds that it ran, and the answer's content.
        """
        started = time.perf_counter_ns()
        self._taken = task
        try:
            try:
                fn, args = self._decoder.decode(payload, function_length, kind=kind, task=task)
                if self._loading:
                    self._begin_loaded(task)
                started = time.perf_counter_ns()
                self._current = task
                value = fn(*args) if type(args) is tuple else call(fn, args)
                self._current = NO_TASK
                run_ns = time.perf_counter_ns() - started
                if self._reporter.late is not None:
                    self._reporter.send_late(task)
                answer, body = encode_result(value, self._spec.max_payload, self._results)
            except BaseException as error:
                self._current = NO_TASK
                run_ns = time.perf_counter_ns() - started
                self._send_late_progress(task, error)
                answer, body = Kind.ERROR, encode_failure(error, self._spec.max_payload)
        except TaskInterrupted as error:  # it struck while the answer was being made
            run_ns = time.perf_counter_ns() - started
            answer, body = Kind.ERROR, encode_failure(error, self._spec.max_payload)
        return answer, started, run_ns, body

    def _send_late_progress(self, task: int, error: BaseException) -> None:
        """Send what is left before the answer of a task that has failed, which the caller must hear in any case."""
        try:
            self._reporter.send_late(task)
        except (TaskNotPicklable, PayloadTooLarge) as failure:
            error.add_note(f"its last progress could not be sent: {failure}")

    def _tell_loading(self) -> None:
        """Tell the server that a module is about to be imported, if that is for a task which does not run yet."""
        if self._current == NO_TASK and self._taken != NO_TASK and not self._loading:
            self._loading = True
            self._reporter.send(header(Kind.LOADING, 0, self._taken))

    def _begin_loaded(self, task: int) -> None:
        """Begin the task, now that all is there: from here on it can be interrupted, and the server may know that."""

        def begin() -> None:
            self._reporter.send(header(Kind.LOADING, 0, task, 1))
            self._current = task

        self._reporter.undisturbed(begin)  # an interrupt that comes before the task is current stays in the pipe

    def _tell_released(self) -> None:
        """Say which views are not in use any more; what belongs to others is asked again after the next task."""
        assert self._views is not None  # noqa: S101 - there was a view
        released = self._views.released()
        self._keeps_views = bool(len(self._views))
        self._reporter.send(b"".join(header(Kind.RELEASED, 0, task) for task in released))

    def _answer(self, kind: Kind, task: int, run_ns: int, body: bytes) -> None:
        self._taken, self._loading = NO_TASK, False
        head = header(kind, len(body), task, run_ns)
        if self._spec.measure_memory:
            head = header(Kind.MEMORY, 0, task, resident_bytes() or 0) + head
        if len(body) <= _JOIN_BYTES:
            self._reporter.send(head + body)
        else:
            self._reporter.send(head)
            self._reporter.send(body)

    def _on_interrupt(self, _signum: int, _frame: object) -> None:
        if not self._reporter.is_writing:  # else it is looked for after that
            self._look_for_interrupt()

    def _look_for_interrupt(self) -> None:
        try:
            meant = os.read(self._control, 4096)
        except OSError:
            return
        current = self._current
        if current != NO_TASK and any(task == current for (task,) in NUMBER.iter_unpack(meant)):
            self._current = NO_TASK
            self._was_interrupted = True
            raise TaskInterrupted
