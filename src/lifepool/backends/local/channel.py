"""The server's end of one worker's connection: tasks and tickets out, answers in, on the event loop, without threads.

A worker is reached by four things: the *wire*, a stream socket for frames both ways; the *tickets*, a stream socket
whose reading end both sides hold (see ``worker/task_loop.py``); the *cells*, shared memory where small tasks lie; and
the *control* pipe for interrupts. What is written during one turn of the event loop is sent in one go, at the end of
the turn or, if the worker was idle, at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from lifepool._core.framing import MAX_FRAME_BYTES, Frame, FrameReader, FramingError, Kind, header
from lifepool.backends.local import fork_safety as forked
from lifepool.backends.local.shared.cells import NUMBER, ON_WIRE, TICKET, Cells
from lifepool.backends.local.shared.files import NO_SHARED_MEMORY

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lifepool.backends.local.codec.calls import Call

#: Buffers of at least this many bytes are handed to the kernel as they are; smaller ones are joined first.
_JOIN_BYTES = 64 * 1024
#: How much one turn of the event loop reads from one worker before the others get theirs.
_READS_PER_TURN = 16
_TICKETS_PER_READ = 4096


class Channel:
    """One worker's connection.

    Args:
        loop: The event loop that both sides of the callbacks run on.
        on_frame: Called with each frame. The payload is only valid during the call.
        on_end: Called once, when the worker's side is closed or talks nonsense; with the reason for the latter.
        on_failure: Called with what a callback of the event loop raised, for which nothing else is prepared.
        limit: A worker that announces more bytes than this in one frame talks nonsense.

    Raises:
        OSError: If there are no descriptors left, for example. Nothing is left open then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_frame: Callable[[Frame], None],
        on_end: Callable[[str], None],
        on_failure: Callable[[Exception], None],
        *,
        limit: int = MAX_FRAME_BYTES,
    ) -> None:
        self._loop = loop
        self._on_frame = on_frame
        self._on_end = on_end
        self._on_failure = on_failure
        self.worker_wire: socket.socket
        self.worker_tickets: socket.socket
        self.worker_control: int
        with contextlib.ExitStack() as made:  # closed if the next can't be made
            self._wire, self.worker_wire = map(made.enter_context, socket.socketpair())
            self._tickets, self.worker_tickets = map(made.enter_context, socket.socketpair())
            self.worker_control, self._control = os.pipe()
            made.pop_all()
        self.cells: Cells | None = None
        with contextlib.suppress(*NO_SHARED_MEMORY):  # without, all tasks go over the wire
            self.cells = Cells()
        self._wire.setblocking(False)
        self._tickets.setblocking(False)
        os.set_blocking(self._control, False)
        self._reader = FrameReader(limit)
        self._out: list[bytes | memoryview] = []
        self._tickets_out: list[bytes] = []
        self._holding = False  # within on_readable: write at its end
        self._flush_planned = False
        self._writing = False  # the kernel's buffer is full, the loop tells us when there is room
        self._ended = False
        self._closed = False
        forked.register(self)

    def open(self) -> None:
        """Close our copies of the ends that the worker has now, and listen."""
        self.worker_wire.close()
        self._close_worker_control()
        if self.cells is not None:
            self.cells.handed_over()
        # worker_tickets stays open: reading it is how tickets are taken back.
        self._loop.add_reader(self._wire.fileno(), self._on_readable)

    def send(self, task: int, call: Call, *, urgent: bool) -> None:
        """Send a task and its ticket; ``urgent`` if the worker is waiting for it."""
        kind = call.kind
        cells = self.cells
        # What needs a constant goes the way that constants go, and so comes after them.
        ticket = None if cells is None or call.constants else cells.put(task, kind, call)
        if ticket is None:
            ticket = TICKET.pack(task, ON_WIRE, 0, 0, 0)
            function, arguments = call.function, call.arguments
            self._out += (header(kind, len(function) + len(arguments), task, len(function)), function, arguments)
        self._tickets_out.append(ticket)
        if self._holding:
            return
        if urgent:
            self._flush()
        elif not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def post(self, kind: Kind, number: int, payload: bytes = b"") -> None:
        """Write a frame that is no task; it leaves with the next one."""
        self._out += (header(kind, len(payload), 0, number), payload) if payload else (header(kind, 0, 0, number),)

    def retract(self) -> tuple[int, ...]:
        """Take back the tickets that the worker has not taken, oldest first."""
        taken = b""
        with contextlib.suppress(OSError):
            while True:
                # This end is blocking, as the worker's reads need it to be: the flag makes the one call not block.
                piece = self.worker_tickets.recv(_TICKETS_PER_READ, socket.MSG_DONTWAIT)
                taken += piece
                if len(piece) < _TICKETS_PER_READ:
                    break
        taken += b"".join(self._tickets_out)
        self._tickets_out.clear()
        tasks = tuple(ticket[0] for ticket in TICKET.iter_unpack(taken))
        for task in tasks:
            self.answered(task)
        return tasks

    def answered(self, task: int) -> None:
        """Free the cell of a task that the worker is done with."""
        if self.cells is not None:
            self.cells.release(task)

    def interrupt(self, task: int) -> None:
        """Write down which task the interrupt signal is meant for."""
        with contextlib.suppress(OSError):
            os.write(self._control, NUMBER.pack(task))

    def let_go(self) -> None:
        """End the stream of tickets: the worker exits when it has no task left."""
        self._flush()
        with contextlib.suppress(OSError):
            self._tickets.shutdown(socket.SHUT_WR)

    def drain_in(self) -> None:
        """Read what a dead worker has left in the socket."""
        while not self._ended and not self._closed and self._read_once():
            pass

    def reject(self, reason: str) -> None:
        """End the connection: a frame that was read before turned out to be invalid."""
        self._end(f"it sent invalid data: {reason}")

    def stop(self) -> None:
        """Stop listening to the worker, and telling it anything."""
        if not self._closed:
            self._stop_reading()
            self._out.clear()
            self._stop_writing()

    def _stop_reading(self) -> None:
        self._ended = True
        self._loop.remove_reader(self._wire.fileno())

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._wire.fileno())

    def close(self) -> None:
        """Close all descriptors; may be called twice."""
        if self._closed:
            return
        try:
            self._stop_reading()
            self._stop_writing()
        finally:
            self.let_go_in_child()

    def let_go_in_child(self) -> None:
        """Close all descriptors without a word to the event loop, which a forked child shares with its parent."""
        if self._closed:
            return
        self._closed = True
        for end in (self._wire, self.worker_wire, self._tickets, self.worker_tickets):
            end.close()
        os.close(self._control)
        self._control = -1
        self._close_worker_control()
        if self.cells is not None:
            self.cells.close()

    def _close_worker_control(self) -> None:
        if self.worker_control >= 0:
            os.close(self.worker_control)
            self.worker_control = -1

    # -- in -------------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        self._holding = True
        try:
            for _ in range(_READS_PER_TURN):
                if not self._read_once():
                    break
        except Exception as error:
            self._on_failure(error)
            return
        finally:
            self._holding = False
        if (self._tickets_out or self._out) and not self._closed:
            self._flush()

    def _read_once(self) -> bool:
        """Read what is there, at most a bufferful; whether there may be more."""
        buffer = self._reader.buffer()
        try:
            count = self._wire.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            count = 0
        if not count:
            self._end("")
            return False
        try:
            for frame in self._reader.received(count):
                self._on_frame(frame)
        except FramingError as error:
            self.reject(str(error))
            return False
        return count == len(buffer) and not self._closed

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._stop_reading()
            self._on_end(reason)

    # -- out ------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_planned = False
        if self._closed:
            return
        try:
            if self._out and not self._writing:
                self._write()
            if self._tickets_out:
                # Sixteen bytes for each of a handful of tasks: they always fit. What can't be sent stays, and so is
                # taken back as not started.
                self._tickets.send(b"".join(self._tickets_out))
                self._tickets_out.clear()
        except Exception as error:
            self._on_failure(error)

    def _on_writable(self) -> None:
        try:
            self._write()
        except Exception as error:
            self._on_failure(error)

    def _write(self) -> None:
        try:
            while self._out:
                out = self._out
                if len(out) > 1 and sum(map(len, out)) <= _JOIN_BYTES:
                    out[:] = (b"".join(out),)
                sent = self._wire.send(out[0]) if len(out) == 1 else self._wire.sendmsg(out[:64])
                if len(out) == 1 and sent == len(out[0]):
                    out.clear()
                else:
                    self._drop_sent(sent)
        except (BlockingIOError, InterruptedError):
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._wire.fileno(), self._on_writable)
            return
        except ConnectionError:
            self._out.clear()  # the worker is gone; its exit tells the rest
        self._stop_writing()

    def _drop_sent(self, sent: int) -> None:
        out = self._out
        while out and sent >= len(out[0]):
            sent -= len(out.pop(0))
        if sent:
            out[0] = memoryview(out[0])[sent:]
