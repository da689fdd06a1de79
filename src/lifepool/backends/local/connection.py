"""One worker's connection: its process, the channel to it, what it may still read, and how it ended."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from lifepool._core.events import WorkerExited, WorkerLoaded, WorkerLoading
from lifepool._core.framing import Frame, FramingError, Kind
from lifepool.backends.guard import Guard
from lifepool.backends.local.channel import Channel
from lifepool.backends.local.codec.answers import ENVELOPE_BYTES, decode_value
from lifepool.backends.local.inbox import Inbox, decoded, decoded_error
from lifepool.backends.local.sent_constants import Delivered
from lifepool.backends.local.shared.files import NO_SHARED_MEMORY
from lifepool.backends.local.shared.leases import Leases
from lifepool.backends.local.shared.results import ResultReader
from lifepool.backends.local.template.process import UNKNOWN_EXIT, WorkerProcess
from lifepool.backends.local.worker.bootstrap import PER_MILLE, run_worker
from lifepool.backends.local.worker.startup import Descriptor, start_failure
from lifepool.errors import TaskNotPicklable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lifepool.backends.base import Listener
    from lifepool.backends.local.codec.calls import Call
    from lifepool.backends.local.copy_threads import CopyThreads
    from lifepool.backends.local.shared.arena import Arguments
    from lifepool.backends.local.template.client import Template
    from lifepool.backends.local.worker.startup import WorkerSpec

#: Room for one worker's big results, in payloads of the largest size: one that is being read, and one that is being
#: written. What does not fit is sent through the socket. Files are sparse: this costs address space only.
RESULTS_ROOM = 2

logger: logging.Logger = logging.getLogger("lifepool")

#: Nearly all frames are this; looking a member of an enum up costs more than comparing with it.
_RESULT = int(Kind.RESULT)


class WorkerConnection:
    """One worker, from the order to start it until its end was reported.

    Args:
        number: The worker's.
        listener: Is called with what the worker sends.
        note_big: Called when a big result goes by.
        on_failure: Called if something of ours fails that concerns this worker alone.
    """

    __slots__ = (
        "_listener",
        "_note_big",
        "channel",
        "delivered",
        "doomed",
        "end_is_reported",
        "guard",
        "has_exited",
        "has_failed",
        "inbox",
        "is_watched",
        "leases",
        "memory",
        "number",
        "outstanding",
        "process",
        "reason",
        "results",
        "start_error",
        "start_hint",
    )

    def __init__(
        self,
        number: int,
        listener: Listener,
        note_big: Callable[[], None],
        on_failure: Callable[[WorkerConnection, Exception], None],
    ) -> None:
        self.number: int = number
        self._listener = listener
        self._note_big = note_big
        self.guard: Guard = Guard(lambda error: on_failure(self, error))
        self.channel: Channel | None = None
        self.delivered: Delivered | None = None
        self.process: WorkerProcess | None = None
        self.doomed: bool = False  # it was to be killed before it had a pid
        self.is_watched: bool = False  # the loop will tell of its end
        self.has_exited: bool = False  # what it said last may still have to be read
        self.has_failed: bool = False  # what it says is not listened to any more
        self.end_is_reported: bool = False
        self.outstanding: int = 0  # tasks sent and not answered: none means that it is waiting for one
        self.leases: Leases = Leases()  # what it may still read of the shared arguments
        self.results: ResultReader | None = None
        self.inbox: Inbox | None = None
        self.memory: int | None = None
        self.reason: str = ""
        self.start_error: str | None = None
        self.start_hint: str | None = None

    @property
    def rests(self) -> bool:
        """Whether it has no task, and nothing that it said waits to be read."""
        return not self.outstanding and (self.inbox is None or not self.inbox.is_reading)

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: CopyThreads,
        max_payload: int,
        on_end: Callable[[str], None],
    ) -> None:
        """Make the channel, and what reads the answers.

        Args:
            loop: Where frames are read.
            threads: Read big results.
            max_payload: Bytes that a pickled result may have.
            on_end: Called with the reason when the channel ends.

        Raises:
            OSError: If the system has no more sockets.
        """
        channel = self.channel = Channel(
            loop, self.on_frame, on_end, self.guard.failed, limit=max_payload + ENVELOPE_BYTES
        )
        with contextlib.suppress(*NO_SHARED_MEMORY):
            self.results = ResultReader(RESULTS_ROOM * max_payload)
        self.inbox = Inbox(
            self.results,
            threads,
            on_frame=self._take,
            on_answer=lambda *answer: self._answered(*answer, shared=True),
            on_invalid=channel.reject,
            guard=self.guard,
        )

    def launch(
        self, template: Template, spec: WorkerSpec, shared: Arguments | None, logs_fd: int, name: str
    ) -> WorkerProcess:
        """Fork the worker and hand it its ends of the connection; runs in the starter thread.

        Args:
            template: The process to fork from.
            spec: What the worker has to know.
            shared: Where big arguments are, if there is shared memory.
            logs_fd: Where the worker writes log records; negative if nobody wants them.
            name: The name of the process.

        Raises:
            ChildProcessError: If the worker was given up while it waited for its turn.
            OSError: If the system can't start it.
        """
        channel, results = self.channel, self.results  # the event loop may close them meanwhile
        if self.doomed or channel is None:  # a new template might hang like the one before
            raise ChildProcessError("it was given up before it was started")
        ends = (channel.worker_wire.fileno(), channel.worker_tickets.fileno(), channel.worker_control)
        process = WorkerProcess(
            template,
            run_worker,
            (
                spec,
                *map(Descriptor, ends),
                Descriptor(channel.cells.reading_fd) if channel.cells is not None else -1,
                Descriptor(shared.reading_fd) if shared is not None else -1,
                Descriptor(results.writing_fd) if results is not None else -1,
                Descriptor(logs_fd) if logs_fd >= 0 else -1,
            ),
            name=name,
        )
        process.start()
        return process

    def send(self, task: int, payload: Call) -> None:
        """Write a task to the worker; do nothing if the channel is gone."""
        if self.channel is not None:
            self.outstanding += 1
            if payload.lease is not None:
                self.leases.lend(task, payload.lease)
            if payload.constants:
                if self.delivered is None:
                    self.delivered = Delivered(self.channel)
                self.delivered.send_missing(payload.constants)
            self.channel.send(task, payload, urgent=self.outstanding == 1)

    def retract(self) -> tuple[int, ...]:
        """Take back the tickets of what the worker has not started; return those tasks, oldest first."""
        if self.channel is None:
            return ()
        tasks = self.channel.retract()
        self.outstanding -= len(tasks)
        for task in tasks:
            self.leases.take_back(task)
        return tasks

    def interrupt(self, task: int) -> None:
        """Signal the worker to break off this task. If it is done, and only still being read, take the answer."""
        answer = None if self.inbox is None else self.inbox.abandon_answer(task)
        if answer is not None:
            self._answered(answer, None, None, 0)
        elif self.channel is not None and self.process is not None and not self.has_exited:
            self.channel.interrupt(task)
            self.process.interrupt()

    def on_frame(self, frame: Frame) -> None:
        """Take a frame of the worker: at once, or when what it sent before has been read."""
        inbox = self.inbox
        if inbox is not None and inbox.is_reading:
            inbox.keep(frame)
        else:
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        if kind == _RESULT:
            value, error = decoded(frame.payload)
            self._answered(frame, value, error, len(frame.payload))
        elif kind == Kind.ERROR:
            self._answered(frame, None, decoded_error(frame.payload), len(frame.payload))
        elif kind == Kind.RESULT_STORED and self.inbox is not None:
            self._note_big()
            self.inbox.read(frame)
        elif kind == Kind.PROGRESS:
            with contextlib.suppress(TaskNotPicklable):
                self._listener.progressed(self.number, frame.task, decode_value(frame.payload))
        elif kind == Kind.LOADING:
            self._listener.feed((WorkerLoaded if frame.extra else WorkerLoading)(self.number, frame.task))
        elif kind == Kind.RELEASED:
            self.leases.released(frame.task)
        elif kind == Kind.MEMORY:
            self.memory = frame.extra
        elif kind == Kind.READY:
            self._listener.ready(self.number, frame.extra / PER_MILLE)
        elif kind == Kind.START_FAILED:
            self.start_error, self.start_hint = start_failure(frame.payload)
        else:
            raise FramingError(f"a frame of kind {kind}, which is not for the server")

    def _answered(
        self,
        frame: Frame,
        value: object,
        error: BaseException | None,
        size: int,
        *,
        shared: bool = False,
    ) -> None:
        self.outstanding -= 1
        if self.channel is not None:
            self.channel.answered(frame.task)
        self._listener.returned(
            self.number,
            frame.task,
            value,
            error,
            run_s=frame.extra * 1e-9,
            size=size,
            shared=shared,
            memory=self.memory,
            kept=self.leases.answered(frame.task),
        )

    def complain(self, error: Exception) -> None:
        """Log what went wrong in the server's dealings with this worker, which should never happen."""
        self.reason = self.reason or f"lifepool failed in its dealings with it: {error!r}"
        message = "lifepool failed in its dealings with worker %d, which is ended; the others go on"
        logger.error(message, self.number, exc_info=error)

    def end(self, unstarted: tuple[int, ...]) -> WorkerExited:
        """Say how it ended, as far as that is known.

        Args:
            unstarted: Tasks that it was sent and has provably not started.
        """
        code = None if self.process is None or not self.has_exited else self.process.exitcode
        if code == UNKNOWN_EXIT:
            code = None
        return WorkerExited(
            self.number,
            unstarted,
            exitcode=None if code is None or code < 0 else code,
            signal=None if code is None or code >= 0 else -code,
            reason=self.reason,
            start_error=self.start_error,
            start_hint=self.start_hint,
        )

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Release everything that belongs to it; one failure does not keep the rest."""
        with contextlib.ExitStack() as stack:  # last in, first out
            if self.process is not None:
                stack.callback(self._close_process, self.process, loop)
            for part in (self.results, self.inbox, self.channel):
                if part is not None:
                    stack.callback(part.close)
            self.leases.clear()
            # A timer may hold the connection for seconds; what was read from the worker may be large.
            self.channel = self.inbox = self.results = self.delivered = None

    def _close_process(self, process: WorkerProcess, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(process.sentinel)
        process.dispose()
