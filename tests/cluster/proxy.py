"""A network that can be bad: a TCP proxy on loopback that delays, swallows and resets."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 1 << 16


class Proxy:
    """Pass on every connection to a port.

    Args:
        target: The port.

    Attributes:
        port: Where it listens.
        delay_s: Seconds that every piece of data takes longer, in each direction.
        is_cut: Whether all that is sent is kept back, as by a cable that is pulled: nobody is told.
    """

    def __init__(self, target: int) -> None:
        self.delay_s: float = 0.0
        self.is_cut: bool = False
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._late: deque[tuple[float, socket.socket, bytes]] = deque()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)

    def reset(self) -> None:
        """Break every connection with a reset; new ones can be made."""
        with self._lock:
            self._drop_all()

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(10)
        self._drop_all()
        self._listener.close()

    def _drop_all(self) -> None:
        for end in self._pairs:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
        self._pairs.clear()
        self._late.clear()

    def _serve(self) -> None:
        while not self._ended.is_set():
            with self._lock:
                ends = [] if self.is_cut else list(self._pairs)
            try:
                ready, _, _ = select.select([self._listener, *ends], [], [], 0.002 if self._late else 0.02)
            except (OSError, ValueError):
                continue  # reset meanwhile
            with self._lock:
                self._pass_on(ready)

    def _pass_on(self, ready: list[socket.socket]) -> None:
        for end in ready:
            if end is self._listener:
                self._accept()
            elif end in self._pairs and not self.is_cut:
                self._read(end)
        now = time.monotonic()
        while self._late and not self.is_cut and self._late[0][0] <= now:
            _, end, data = self._late.popleft()
            self._write(end, data)

    def _accept(self) -> None:
        incoming, _ = self._listener.accept()
        try:
            outgoing = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            incoming.close()
            return
        for end in (incoming, outgoing):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs[incoming], self._pairs[outgoing] = outgoing, incoming

    def _read(self, end: socket.socket) -> None:
        try:
            data = end.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._close(end)
        elif self.delay_s or self._late:
            self._late.append((time.monotonic() + self.delay_s, self._pairs[end], data))
        else:
            self._write(self._pairs[end], data)

    def _write(self, end: socket.socket, data: bytes) -> None:
        if end not in self._pairs:
            return
        try:
            end.sendall(data)
        except OSError:
            self._close(end)

    def _close(self, end: socket.socket) -> None:
        other = self._pairs.pop(end)
        self._pairs.pop(other, None)
        end.close()
        other.close()
