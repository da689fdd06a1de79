"""The client's end of Celery on Redis: calls go into Celery's queue, outcomes come by a list of this client's own.

A list rather than Celery's result backend: what is in it waits for a client that is away for a moment, one blocking
read brings home many, and nothing is left behind.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from lifepool.backends.celery.link import RedisLink
from lifepool.backends.celery.names import BESIDE, Keys, celery_message
from lifepool.backends.remote.messages import Message, Refused
from lifepool.backends.remote.security import LONGEST_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.backends.celery.redis_connection import Command
    from lifepool.backends.remote.transport import TransportListener
    from lifepool.backends.remote.urls import ClusterUrl

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds after its last sign of life for which a client counts as there, and what is its stays.
CLIENT_S = 15
#: Seconds beyond a call's deadline after which Celery's own workers end it, if its client has not: and at least.
LIMIT_GRACE_S, LEAST_LIMIT_S = 0.5, 1.0


def make_transport(url: ClusterUrl) -> CeleryTransport:
    """Make the transport of a URL such as ``celery+redis://localhost/0``."""
    return CeleryTransport(url)


class CeleryTransport:
    """Carry messages over Redis, in Celery's form."""

    wait_for_nodes_s: float = 2.0
    tells_clocks: bool = False

    def __init__(self, url: ClusterUrl) -> None:
        self.where: str = url.where
        self._url = url
        self._keys = Keys(url.queue)
        self._link: RedisLink | None = None
        self._unwritten: dict[str, None] = {}  # ids of calls, in order
        self._is_closing = False

    async def open(self, listener: TransportListener, client: str) -> None:
        """Begin to connect."""
        self._listener = listener
        self._client = client
        self._is_closing = False
        self._link = RedisLink(self._url.address, self._keys.nodes, self, self._keys.replies(client))
        self._link.open()

    def now(self) -> float:
        """Return the time by the clock of the server."""
        assert self._link is not None  # noqa: S101 - it was opened
        return self._link.now()

    def send(self, calls: Sequence[tuple[str, Message]]) -> None:
        """Put calls into the queue, in one message of Celery's."""
        commands: list[Command] = [
            ("SET", self._keys.payload(id), message.payload, "EX", 2 * int(LONGEST_WAIT_S))
            for id, message in calls
            if len(message.payload) > BESIDE
        ]
        ids = [id for id, _ in calls]
        self._unwritten.update(dict.fromkeys(ids))
        assert self._link is not None  # noqa: S101 - it was opened
        self._link.write(*commands, ("LPUSH", self._keys.queue, self._packed(calls)), then=lambda: self._written(ids))

    def _written(self, ids: list[str]) -> None:
        for id in ids:
            self._unwritten.pop(id, None)

    def _packed(self, calls: Sequence[tuple[str, Message]]) -> str:
        """Return calls as they are in the queue: the same each time, so that they can be found there again."""
        limit = None
        if self._url.workers == "celery" and (left := json.loads(calls[0][1].head)["left"]) is not None:
            limit = max(LEAST_LIMIT_S, left + LIMIT_GRACE_S)
        return celery_message(self._keys.queue, calls[0][0], [message for _, message in calls], limit)

    def broadcast(self, message: Message) -> None:
        """Publish to all nodes."""
        assert self._link is not None  # noqa: S101 - it was opened
        self._link.say(("PUBLISH", self._keys.control, message.pack()))

    async def take_back(self, calls: Sequence[tuple[str, Message]]) -> set[str]:
        """Remove calls from the queue."""
        assert self._link is not None  # noqa: S101 - it was opened
        if not calls:
            return set()
        (removed,) = await self._link.ask(("LREM", self._keys.queue, 1, self._packed(calls)))
        if not removed:
            return {id for id, _ in calls}  # a node may be about to read what travels beside
        if beside := [self._keys.payload(id) for id, message in calls if len(message.payload) > BESIDE]:
            self._write(("DEL", *beside))
        return set()

    async def close(self) -> None:
        """Take what is ours from the server, and disconnect."""
        if self._link is not None:
            self._is_closing = True
            self._write(("DEL", self._keys.client(self._client), self._keys.replies(self._client)))
            await self._link.close()

    def _write(self, *commands: Command) -> None:
        assert self._link is not None  # noqa: S101 - it was opened
        self._link.write(*commands)

    # -- Ends -----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Say that we are there, and tell the backend."""
        self._write(*self.signs_of_life())
        self._listener.connected()

    def down(self, reason: str) -> None:
        """Tell the backend, and give it back what may not have got out."""
        if self._link is not None:
            self._link.forget_unwritten()
        unwritten, self._unwritten = list(self._unwritten), {}
        self._listener.disconnected(reason)
        if unwritten:
            self._listener.unsent(unwritten)

    def heard(self, data: bytes) -> None:
        """Unpack a message."""
        try:
            messages = Message.unpack_all(data)
        except Refused as refusal:
            logger.warning("refused a message from %s: %s", self.where, refusal)
            return
        for message in messages:
            self._listener.received(message)

    def signs_of_life(self) -> list[Command]:
        """Renew what says that this client is there."""
        if self._is_closing:
            return []  # they go another way than what takes it from the server, and might come after it
        return [
            ("SET", self._keys.client(self._client), "", "EX", CLIENT_S),
            ("EXPIRE", self._keys.replies(self._client), 4 * CLIENT_S),
        ]
