"""The node's end of Celery on RabbitMQ: outcomes go to the queues of clients, announcements to their exchange."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import amqp

from lifepool.backends.celery.amqp_link import AmqpLink, Parts, Publication
from lifepool.backends.celery.amqp_transport import consume_said
from lifepool.backends.celery.names import Queues
from lifepool.backends.celery.posts import Posts
from lifepool.backends.celery.transport import CLIENT_S
from lifepool.backends.remote.messages import Message, Refused
from lifepool.backends.remote.security import SKEW_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.remote.node import NodeAgent
    from lifepool.backends.remote.urls import ClusterUrl

#: Seconds for which a client is taken to be there once its queue was.
THERE_S = 1.0
#: Clients of which it is remembered.
MOST_CLIENTS = 1000


class AmqpOutlet:
    """Send what an agent has to say.

    Args:
        url: Of the cluster.

    Attributes:
        agent: Whose; it is set before ``open`` is called.
    """

    skew_s: float = SKEW_S  # the clocks are those of the machines

    def __init__(self, url: ClusterUrl) -> None:
        self.agent: NodeAgent
        self._names = Queues(url.queue)
        self._link = AmqpLink(url.address, self)
        self._posts = Posts(self._send_posts)
        self._there: dict[str, float] = {}  # clients, and until when they count as such
        self._up_since = 0.0
        self._was_up = False

    def open(self) -> None:
        """Begin to connect."""
        self._link.open()

    async def close(self) -> None:
        """Disconnect when all is said."""
        self._posts.flush()
        await self._link.close()

    # -- Outlet ---------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time of this machine."""
        return time.time()

    def post(self, client: str, message: Message) -> None:
        """Publish to the client's queue, which vanishes some time after the client."""
        if not self._posts:
            asyncio.get_running_loop().call_soon(self._posts.flush)
        self._posts.add(client, message)

    def _send_posts(self, client: str, joined: list[bytes]) -> None:
        queue = self._names.replies(client)
        self._link.write(*[Publication("", queue, body) for body in joined])

    def post_or_drop(self, client: str, message: Message) -> None:
        """Publish to the client's queue, if there is a connection."""
        self._link.say(Publication("", self._names.replies(client), message.pack()))

    def announce(self, message: Message) -> None:
        """Publish to all clients."""
        self._link.say(Publication(self._names.nodes, "", message.pack()))

    async def claim(self, id: str, client: str, seconds: float) -> bool:
        """Say yes if the client is there: there is no memory that nodes share."""
        now = time.monotonic()
        if self._there.get(client, 0.0) < now:
            is_there = await self._link.ask(lambda connection: _has_queue(connection, self._names.replies(client)))
            if not is_there and now - self._up_since > CLIENT_S:  # else it is about to come back, like us
                raise Refused("abandoned", "its client is gone")
            if len(self._there) >= MOST_CLIENTS:
                self._there.clear()
            self._there[client] = now + THERE_S
        return True

    async def fetch(self, id: str) -> bytes:
        """Take the payload that travelled beside its message."""
        payload: bytes = await self._link.ask(lambda connection: _taken(connection, self._names.payload(id)))
        return payload

    # -- AmqpEnds -------------------------------------------------------------------------------------------------

    def set_up(self, channel: Any, heard: Callable[[Any], object]) -> None:
        """Declare the exchanges, and hear what clients say to all."""
        channel.exchange_declare(self._names.nodes, "fanout", durable=False, auto_delete=False)
        consume_said(channel, self._names.control, heard)

    def up(self) -> None:
        """Say again what a broker that was away may have lost."""
        self._up_since = time.monotonic()
        if self._was_up:
            self.agent.repeat_taken()
        self._was_up = True
        self.agent.announce()

    def down(self, reason: str) -> None:
        """Do nothing: what is to be said is kept."""

    def heard(self, data: bytes) -> None:
        """Give the agent what a client says to all nodes."""
        try:
            self.agent.control(Message.unpack(data))
        except Refused as refusal:
            self.agent.count(refusal, "what was published")


def _has_queue(connection: Any, queue: str) -> bool:
    """Return whether there is a queue. To ask for it by a declaration would count as its use, and keep it alive."""
    channel = connection.channel()
    try:
        channel.queue_bind(queue, "amq.direct", queue)  # nobody publishes there
    except amqp.NotFound:  # the broker has closed the channel
        return False
    channel.close()
    return True


def _taken(connection: Any, queue: str) -> bytes:
    """Read a payload, and delete its queue."""
    channel, parts, payload = connection.channel(), Parts(), None
    try:
        while payload is None and (message := channel.basic_get(queue, no_ack=True)) is not None:
            payload = parts.add(message)
        channel.queue_delete(queue)
    except amqp.NotFound:
        return b""
    channel.close()
    return payload or b""
