"""Ways into a running pool, for forcing it into a state that is otherwise a matter of luck."""

from __future__ import annotations

import array
import fcntl
import socket
import termios
from typing import TYPE_CHECKING, Any

from lifepool._core.events import TimerFired
from lifepool._core.framing import FrameReader, Kind

if TYPE_CHECKING:
    from lifepool import Pool
    from lifepool.backends.local.channel import Channel
    from lifepool.backends.local.template.process import WorkerProcess


def backend_of(pool: Pool) -> Any:
    assert pool._engine is not None
    return pool._engine._backend


def only_channel(pool: Pool) -> Channel:
    """The connection of the pool's only worker."""
    (member,) = backend_of(pool)._connections.values()
    channel: Channel = member.channel
    return channel


def only_process(pool: Pool) -> WorkerProcess:
    """The process of the pool's only worker."""
    (member,) = backend_of(pool)._connections.values()
    process: WorkerProcess = member.process
    return process


def template_pid(pool: Pool) -> int:
    pid: int = backend_of(pool)._template.pid
    return pid


def unread(end: socket.socket) -> int:
    """Bytes that wait in a socket."""
    count = array.array("i", [0])
    fcntl.ioctl(end, termios.FIONREAD, count)
    return count[0]


def tickets_taken(channel: Channel) -> bool:
    """Whether the worker has taken all that it was given."""
    return not channel._tickets_out and not unread(channel.worker_tickets)


def answers_waiting(channel: Channel) -> int:
    """Whole answers that the worker has written and the server has not read."""
    if not unread(channel._wire):
        return 0
    frames = FrameReader().feed(channel._wire.recv(1 << 20, socket.MSG_PEEK))
    return sum(frame.kind != Kind.LOADING for frame in frames)


def let_time_pass(pool: Pool, seconds: float) -> None:
    """Have the pool's clock jump, and what is due then happen now."""
    engine: Any = pool._engine
    clock = engine.clock
    engine.clock = engine._alarm._clock = engine.queries._clock = lambda: clock() + seconds
    engine.feed(TimerFired())


class StingySocket:
    """Stands in for a socket and lets so many bytes out, then none: as if the kernel had no room any more."""

    def __init__(self, real: socket.socket, allowance: int) -> None:
        self._real = real
        self._allowance = allowance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def send(self, data: bytes | memoryview) -> int:
        if not self._allowance:
            raise BlockingIOError
        sent = self._real.send(data[: self._allowance])
        self._allowance -= sent
        return sent

    def sendmsg(self, buffers: list[bytes | memoryview]) -> int:
        return self.send(b"".join(buffers))
