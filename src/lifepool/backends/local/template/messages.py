"""Exchange messages between a server and its template: pickled values on a socket, one after another."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

#: The answer to a request that is about no worker: to be parked, or to be taken again.
GRANTED = b"\1"

_LENGTH = struct.Struct("<I")


def send_message(line: socket.socket, value: object) -> None:
    """Send a value.

    Raises:
        OSError: If the other side is gone.
    """
    body = pickle.dumps(value)
    line.sendall(_LENGTH.pack(len(body)) + body)


def receive_message(line: socket.socket) -> Any:
    """Wait for the next value. The other side is trusted: it is this program.

    Raises:
        EOFError: If the other side is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    return pickle.loads(_exactly(line, length))


def _exactly(line: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = line.recv(count - len(parts))
        except ConnectionResetError:
            part = b""
        if not part:
            raise EOFError("the other side is gone")
        parts += part
    return bytes(parts)
