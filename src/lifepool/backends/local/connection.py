"""One worker's connection: its process, the channel to it, what it may still read, and how it ended."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from lifepool._core.events import WorkerExited
from lifepool.backends.guard import Guard
from lifepool.backends.local.shared.leases import Leases
from lifepool.backends.local.template.process import UNKNOWN_EXIT, WorkerProcess
from lifepool.backends.local.worker.bootstrap import run_worker
from lifepool.backends.local.worker.startup import Descriptor

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lifepool.backends.local.channel import Channel
    from lifepool.backends.local.inbox import Inbox
    from lifepool.backends.local.sent_constants import Delivered
    from lifepool.backends.local.shared.arena import Arguments
    from lifepool.backends.local.shared.results import ResultReader
    from lifepool.backends.local.template.client import Template
    from lifepool.backends.local.worker.startup import WorkerSpec

logger = logging.getLogger("lifepool")


class WorkerConnection:
    """One worker, from the order to start it until its end was told.

    Args:
        number: The worker's.
        on_failure: Called if something of ours fails that concerns this worker alone.
    """

    __slots__ = (
        "channel",
        "delivered",
        "doomed",
        "end_is_told",
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

    def __init__(self, number: int, on_failure: Callable[[WorkerConnection, Exception], None]) -> None:
        self.number = number
        self.guard = Guard(lambda error: on_failure(self, error))
        self.channel: Channel | None = None
        self.delivered: Delivered | None = None
        self.process: WorkerProcess | None = None
        self.doomed = False  # it was to be killed before it had a pid
        self.is_watched = False  # the loop will tell of its end
        self.has_exited = False  # what it said last may still have to be read
        self.has_failed = False  # what it says is not listened to any more
        self.end_is_told = False
        self.outstanding = 0  # tasks sent and not answered: none means that it is waiting for one
        self.leases = Leases()  # what it may still read of the shared arguments
        self.results: ResultReader | None = None
        self.inbox: Inbox | None = None
        self.memory: int | None = None
        self.reason = ""
        self.start_error: str | None = None
        self.start_hint: str | None = None

    @property
    def rests(self) -> bool:
        """Whether it has no task, and nothing that it said waits to be read."""
        return not self.outstanding and (self.inbox is None or not self.inbox.is_reading)

    def launch(
        self, template: Template, spec: WorkerSpec, shared: Arguments | None, logs_fd: int, name: str
    ) -> WorkerProcess:
        """Fork the worker and hand it its ends of the connection; runs in the starter thread.

        Args:
            template: The process to fork from.
            spec: What the worker is told.
            shared: Where big arguments are, if there is shared memory.
            logs_fd: Where the worker writes log records; negative if nobody wants them.
            name: The name of the process.

        Raises:
            ChildProcessError: If the worker was given up while it waited for its turn.
            OSError: If the system can't start it.
        """
        if self.doomed or self.channel is None:  # a new template might hang like the one before
            raise ChildProcessError("it was given up before it was started")
        channel, results = self.channel, self.results
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
        """Let go of all that is held for it; one failure does not keep the rest."""
        with contextlib.ExitStack() as stack:  # last in, first out
            if self.process is not None:
                stack.callback(self._close_process, self.process, loop)
            for held in (self.results, self.inbox, self.channel):
                if held is not None:
                    stack.callback(held.close)
            self.leases.clear()
            # A timer may hold the connection for seconds; what was read from the worker may be large.
            self.channel = self.inbox = self.results = self.delivered = None

    def _close_process(self, process: WorkerProcess, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(process.sentinel)
        process.dispose()
