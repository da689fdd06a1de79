"""A connection between a client and a node, by Dask's own means: batches of items go both ways.

What is put onto it in one turn of the event loop leaves as one batch. Payloads above a limit are frames of their own,
which Dask neither copies nor packs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from distributed.comm import CommClosedError
from distributed.protocol import to_serialize

from lifepool.backends.guard import logged
from lifepool.backends.remote.messages import Message

if TYPE_CHECKING:
    from collections.abc import Callable

logger: logging.Logger = logging.getLogger("lifepool")

#: What a Dask worker knows our connections by.
OPERATION = "lifepool"
#: Kinds of items. From a client: a call with its id, or a message for the node. From a node: a message, the id of a
#: call that it is done with, how busy it is (slots, calls of all clients, whether it takes more), or that it ends and
#: has answered all that it will: what it is not done with by then has not reached it.
CALL, MESSAGE, DONE, LOAD, BYE = "call", "message", "done", "load", "bye"
#: Bytes above which a payload is a frame of its own.
BESIDE = 64 * 1024
#: Seconds that writing what is left may take at the end.
LAST_WORDS_S = 1.0

Item = tuple[Any, ...]


class Line:
    """A connection that is there.

    Args:
        comm: Dask's.
        take: Called with each item that arrives.
    """

    def __init__(self, comm: Any, take: Callable[[Item], object]) -> None:
        comm.allow_offload = False  # bytes take no time to serialize, and measuring them for that does
        self._comm = comm
        self._take: Callable[[Item], None] = logged(take, "take what came over a connection of Dask's")
        self._outbox: list[Item] = []
        self._has_more = asyncio.Event()
        self._is_empty = asyncio.Event()

    def put(self, *item: Any) -> None:
        """Send an item in this turn of the loop, together with others; it is dropped if the connection breaks."""
        self._outbox.append(item)
        self._has_more.set()
        self._is_empty.clear()

    def put_message(self, message: Message) -> None:
        """Send a message."""
        self.put(MESSAGE, *message[:2], _framed(message.payload))

    def put_call(self, id: str, message: Message) -> None:
        """Send a call."""
        self.put(CALL, id, *message[:2], _framed(message.payload))

    async def run(self) -> str:
        """Write and read until the connection breaks; return what it broke with."""
        writing = asyncio.create_task(self._write())
        try:
            while True:
                for item in await self._comm.read():
                    self._take(item)
        except OSError as error:
            return why(error)
        except Exception as error:
            logger.exception("lifepool failed to read from a connection of Dask's, and closes it")
            return repr(error)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            self._comm.abort()

    async def _write(self) -> None:
        try:
            while True:
                self._has_more.clear()
                batch, self._outbox = self._outbox, []
                if batch:
                    await self._comm.write(batch)
                else:
                    self._is_empty.set()
                    await self._has_more.wait()
        except OSError:
            self._comm.abort()  # which ends the reading
        except Exception:
            logger.exception("lifepool failed to write to a connection of Dask's, and closes it")
            self._comm.abort()

    async def close(self) -> None:
        """Write what is left, if that goes quickly, and disconnect."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(LAST_WORDS_S):
                if not self._comm.closed():
                    await self._is_empty.wait()
                    await self._comm.close()
        self._comm.abort()


def why(error: Exception) -> str:
    """Return what a connection broke with, or failed with, in words."""
    if isinstance(error, CommClosedError):
        return "the connection broke"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    root: BaseException = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    because = f" ({root})" if root is not error and str(root) else ""
    return f"{str(error) or type(error).__name__}{because}"


def message_in(head: bytes, signature: bytes, payload: bytes) -> Message:
    """Return the message that is the end of an item."""
    return Message(head, signature, payload)


def _framed(payload: bytes) -> Any:
    return to_serialize(payload) if len(payload) > BESIDE else payload
