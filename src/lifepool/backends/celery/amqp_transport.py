"""The client's end of Celery on RabbitMQ: calls go into Celery's queue, outcomes come by a queue of this client's own.

RabbitMQ has no memory that nodes share, so its calls are not claimed there. A message that the broker delivers again
says so; its node asks the client, which knows whether another node has it.

A large payload goes into a queue of its own, in parts, and its name is in the call; that queue goes when it was read,
or some time after. What is in Celery's queue is taken out of it while no node reads it (``amqp_recall``). While nodes
read it, it stays: the broker itself drops it after ``WAIT_S``, and by then it counts as not started.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from lifepool.backends.celery.amqp_link import AmqpLink, Publication
from lifepool.backends.celery.amqp_recall import recall
from lifepool.backends.celery.names import BESIDE, Queues, celery_body, celery_headers
from lifepool.backends.celery.transport import CLIENT_S
from lifepool.backends.remote.messages import Message, Refused
from lifepool.backends.remote.security import LONGEST_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lifepool.backends.remote.transport import TransportListener
    from lifepool.backends.remote.urls import ClusterUrl

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds for which a call may wait in Celery's queue.
WAIT_S = 55.0
#: Seconds by which the broker may be late with dropping it.
LATE_S = 3.0
#: Seconds for which what is said to all is kept for one that does not listen.
SAID_S = 10.0


def make_transport(url: ClusterUrl) -> AmqpTransport:
    """Make the transport of a URL such as ``celery+amqp://localhost``."""
    return AmqpTransport(url)


class AmqpTransport:
    """Carry messages over RabbitMQ, in Celery's form."""

    wait_for_nodes_s: float = 2.0
    tells_clocks: bool = True

    def __init__(self, url: ClusterUrl) -> None:
        self.where: str = url.where
        self._url = url
        self._names = Queues(url.queue)
        self._link: AmqpLink | None = None
        self._unwritten: dict[str, None] = {}  # ids of calls, in order
        self._recalling: asyncio.Future[tuple[set[str], bool]] | None = None  # until it looks into the queue
        self._recalled: set[str] = set()  # what it is to look for

    async def open(self, listener: TransportListener, client: str) -> None:
        """Begin to connect."""
        self._listener = listener
        self._client = client
        self._link = AmqpLink(self._url.address, self)
        self._link.open()

    @property
    def _opened(self) -> AmqpLink:
        assert self._link is not None  # noqa: S101 - it was opened
        return self._link

    def now(self) -> float:
        """Return the time of this machine: there is none that all share."""
        return time.time()

    def send(self, calls: Sequence[tuple[str, Message]]) -> None:
        """Put calls into the queue, in one message of Celery's."""
        ids = [id for id, _ in calls]
        self._unwritten.update(dict.fromkeys(ids))
        for id, message in calls:
            if len(message.payload) > BESIDE:
                self._send_beside(self._names.payload(id), message.payload)
        body = celery_body([message for _, message in calls]).encode()
        properties = {
            "application_headers": celery_headers(ids[0]), "content_type": "application/json", "delivery_mode": 2,
            "content_encoding": "utf-8", "correlation_id": ids[0], "expiration": str(round(WAIT_S * 1000)),
        }  # fmt: skip
        publication = Publication("", self._names.queue, body, properties)
        self._opened.write(publication, then=lambda: self._written(ids))

    def _send_beside(self, queue: str, payload: bytes) -> None:
        self._opened.write(Publication("", queue, payload), declare=lambda channel: declare_payload(channel, queue))

    def _written(self, ids: list[str]) -> None:
        for id in ids:
            self._unwritten.pop(id, None)

    def broadcast(self, message: Message) -> None:
        """Publish to all nodes."""
        self._opened.say(Publication(self._names.control, "", message.pack()))

    async def take_back(self, calls: Sequence[tuple[str, Message]]) -> set[str]:
        """Take calls out of the queue, if no node reads it; else find out whether they may be there.

        Raises:
            LookupError: If there is something in it, and these may be.
        """
        if not calls:
            return set()
        first = calls[0][0]
        issued = json.loads(calls[0][1].head)["issued"]
        if self.now() - issued > WAIT_S + LATE_S:
            return set()  # the broker has dropped them
        if self._recalling is None:
            self._recalled = set()
            self._recalling = asyncio.ensure_future(self._recall(self._recalled))
        self._recalled.add(first)
        taken, is_all = await asyncio.shield(self._recalling)
        if first in taken:
            return set()
        if not is_all:
            raise LookupError("they may be in the queue: there is much in it")
        return {id for id, _ in calls}

    async def _recall(self, ids: set[str]) -> tuple[set[str], bool]:
        """Look for all envelopes together that are asked for in this turn of the loop."""
        await asyncio.sleep(0)
        self._recalling = None
        queue = self._names.queue
        found: tuple[set[str], bool] = await self._opened.ask(
            lambda connection: recall(connection, lambda channel: declare_calls(channel, queue), queue, ids, WAIT_S)
        )
        return found

    async def close(self) -> None:
        """Delete what is ours, and disconnect."""
        if self._link is not None:
            await self._link.close(lambda channel: channel.queue_delete(self._names.replies(self._client)))

    # -- AmqpEnds -------------------------------------------------------------------------------------------------

    def set_up(self, channel: Any, heard: Callable[[Any], object]) -> None:
        """Declare the queues, and consume our own."""
        declare_calls(channel, self._names.queue)
        channel.exchange_declare(self._names.control, "fanout", durable=False, auto_delete=False)
        consume_said(channel, self._names.nodes, heard)
        replies = self._names.replies(self._client)
        channel.queue_declare(replies, durable=False, auto_delete=False, arguments={"x-expires": CLIENT_S * 1000})
        channel.basic_consume(replies, no_ack=True, callback=heard)

    def up(self) -> None:
        """Tell the backend."""
        self._listener.connected()

    def down(self, reason: str) -> None:
        """Tell the backend, and give it back what may not have got out."""
        self._opened.forget_unwritten()
        unwritten, self._unwritten = list(self._unwritten), {}
        self._listener.disconnected(reason)
        if unwritten:
            self._listener.unsent(unwritten)

    def heard(self, data: bytes) -> None:
        """Unpack messages."""
        try:
            messages = Message.unpack_all(data)
        except Refused as refusal:
            logger.warning("refused a message from %s: %s", self.where, refusal)
            return
        for message in messages:
            self._listener.received(message)


def declare_calls(channel: Any, queue: str) -> Any:
    """Declare Celery's queue as Celery does."""
    return channel.queue_declare(queue, durable=True, auto_delete=False)


def declare_payload(channel: Any, queue: str) -> None:
    """Declare the queue of a large payload: it goes by itself if nobody reads it."""
    arguments = {"x-expires": 2 * int(LONGEST_WAIT_S) * 1000}
    channel.queue_declare(queue, durable=False, auto_delete=False, arguments=arguments)


def consume_said(channel: Any, exchange: str, heard: Callable[[Any], object]) -> None:
    """Hear what is said to all, by a queue that goes with the connection."""
    channel.exchange_declare(exchange, "fanout", durable=False, auto_delete=False)
    arguments = {"x-message-ttl": round(SAID_S * 1000)}
    queue = channel.queue_declare("", durable=False, exclusive=True, auto_delete=True, arguments=arguments).queue
    channel.queue_bind(queue, exchange)
    channel.basic_consume(queue, no_ack=True, callback=heard)
