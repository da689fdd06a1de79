"""What the app, its driver process and the nodes send each other: frames over a pipe, and batches of messages in them.

The driver passes batches on as they are. A reply of a node begins with its load, so that clients know how busy it is.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool.backends.remote.messages import Message

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator

#: Kinds of frames. Both ways: a batch for, or of, a node.
BATCH = 1
#: From the driver: the cluster answers; it does not, and the driver ends; a node is there; it is gone; for the log.
UP, DOWN, ATTACHED, LOST, LOG = 2, 3, 4, 5, 6
#: From the driver, now and then, so that one that hangs is noticed.
ALIVE = 7

#: Bytes above which a batch takes its time.
LARGE = 256 * 1024
#: Bytes of a reply above which it is announced by another: below, a slow network brings it before its node counts as
#: late, and the announcement would cost a round trip of Ray's.
ANNOUNCED = 2 * 1024 * 1024

_HEAD = struct.Struct("!BIQ")
_LENGTH = struct.Struct("!BQ")
_LOAD = struct.Struct("!IIQQ?Q")
_CALL, _OTHER = 0, 1


class Frame(NamedTuple):
    """A frame.

    Attributes:
        kind: One of the above.
        node: The number that the driver has given to a node; 0 if it is about none.
        data: A batch, or JSON.
    """

    kind: int
    node: int = 0
    data: bytes = b""

    def head(self) -> bytes:
        """Return the bytes that go ahead of the data."""
        return _HEAD.pack(self.kind, self.node, len(self.data))

    @classmethod
    def about(cls, kind: int, node: int = 0, /, **fields: Any) -> Frame:
        """Make a frame with JSON in it."""
        return cls(kind, node, json.dumps(fields).encode())

    def fields(self) -> dict[str, Any]:
        """Return what is in the JSON."""
        fields: dict[str, Any] = json.loads(self.data)
        return fields


def write(writer: asyncio.StreamWriter | asyncio.WriteTransport, frame: Frame) -> None:
    """Write a frame."""
    writer.write(frame.head())
    if frame.data:
        writer.write(frame.data)


async def read(reader: asyncio.StreamReader) -> Frame:
    """Read a frame.

    Raises:
        asyncio.IncompleteReadError: If there is none: the other side has ended.
    """
    kind, node, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    return Frame(kind, node, await reader.readexactly(length) if length else b"")


class Load(NamedTuple):
    """How busy a node is, in a reply to one client.

    Attributes:
        slots: Calls that it runs at the same time.
        running: Calls that it has, of all clients.
        received: Calls that it has ever received from this client.
        done: How many of those it is done with.
        takes_more: Whether it takes more.
        coming: Bytes of the large reply that comes next: all else waits behind it.
    """

    slots: int
    running: int
    received: int
    done: int
    takes_more: bool
    coming: int = 0


def join(messages: Iterable[tuple[bool, Message]]) -> bytes:
    """Put messages into a batch, each with whether it is a call."""
    return b"".join(_parts(messages))


def _parts(messages: Iterable[tuple[bool, Message]]) -> list[bytes]:
    parts: list[bytes] = []
    for is_call, message in messages:
        packed = message.parts()
        parts += (_LENGTH.pack(_CALL if is_call else _OTHER, sum(map(len, packed))), *packed)
    return parts


def split(batch: bytes, start: int = 0) -> Iterator[tuple[bool, Message]]:
    """Return the messages of a batch, each with whether it is a call.

    Raises:
        Refused: If one is no message of this version.
    """
    view = memoryview(batch)
    while start < len(batch):
        kind, length = _LENGTH.unpack_from(batch, start)
        start += _LENGTH.size
        yield kind == _CALL, Message.unpack(view[start : start + length])
        start += length


def reply(load: Load, messages: Iterable[Message]) -> bytes:
    """Put messages of a node into a reply."""
    return b"".join([_LOAD.pack(*load), *_parts((False, message) for message in messages)])


def split_reply(data: bytes) -> tuple[Load, Iterator[tuple[bool, Message]]]:
    """Return what is in a reply.

    Raises:
        Refused: If a message is none of this version.
    """
    return Load(*_LOAD.unpack_from(data)), split(data, _LOAD.size)
