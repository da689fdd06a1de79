"""A lasting connection to RabbitMQ in a thread of its own: publishes, consumes, and comes back when it breaks.

The library that Celery itself uses has no asyncio, and waits for the broker in places; the thread keeps that away from
the event loop. What was to be published is kept until the broker has confirmed it. If the connection breaks before, it
is published once more: what is read twice is noticed by its reader.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import amqp

from lifepool.backends.celery.link import ANSWER_S, BEAT_S, LAST_WORDS_S, RETRY_FIRST_S, RETRY_LAST_S

if TYPE_CHECKING:
    from collections.abc import Callable

logger: logging.Logger = logging.getLogger("lifepool")

#: Bytes of one message; what is larger goes in parts, so that the broker never has to hold it in one piece.
PART_BYTES = 1024 * 1024
#: Messages that were received in parts, and lack some, at most: the oldest is dropped first.
MOST_UNFINISHED = 64
#: A queue that there is not: the broker confirms what is sent there, and drops it.
_NOWHERE = "lifepool.nowhere"
_DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}


class Publication(NamedTuple):
    """A message to publish.

    Attributes:
        exchange: Where; ``""`` goes straight to a queue.
        key: The name of the queue, if so.
        body: Its bytes.
        properties: Of AMQP.
    """

    exchange: str
    key: str
    body: bytes
    properties: dict[str, Any] = {}  # noqa: RUF012 - it is never changed

    def parts(self) -> list[Publication]:
        """Return it in parts that are small enough."""
        if len(self.body) <= PART_BYTES:
            return [self]
        id, view = uuid.uuid4().hex, memoryview(self.body)
        count = -(-len(self.body) // PART_BYTES)
        return [
            self._replace(
                body=bytes(view[PART_BYTES * number : PART_BYTES * (number + 1)]),
                properties={**self.properties, "application_headers": {"of": f"{id}:{count}"}},
            )
            for number in range(count)
        ]


class Parts:
    """Put together what has come in parts; each queue keeps their order."""

    def __init__(self) -> None:
        self._parts: dict[str, list[bytes]] = {}

    def add(self, message: Any) -> bytes | None:
        """Take a message; return the whole if nothing of it is missing any more."""
        body: bytes = message.body if isinstance(message.body, bytes) else message.body.encode()
        of = (message.headers or {}).get("of")
        if of is None:
            return body
        parts = self._parts.setdefault(of, [])
        parts.append(body)
        if len(parts) < int(of.rpartition(":")[2]):
            if len(self._parts) > MOST_UNFINISHED:
                del self._parts[next(iter(self._parts))]
            return None
        del self._parts[of]
        return b"".join(parts)


class AmqpEnds(Protocol):
    """Who is told of the connection."""

    def set_up(self, channel: Any, heard: Callable[[Any], object]) -> None:
        """Declare what is needed and consume with ``heard``; it is called in the thread of the connection."""

    def up(self) -> None:
        """Take note, on the event loop, that the connection is there."""

    def down(self, reason: str) -> None:
        """Take note, on the event loop, that it is not, and is tried again."""

    def heard(self, data: bytes) -> None:
        """Take, on the event loop, what was received."""


class _Entry:
    """What is published together.

    Attributes:
        unconfirmed: Messages of it that the broker has not confirmed.
    """

    __slots__ = ("declare", "publications", "then", "unconfirmed")

    def __init__(
        self,
        publications: tuple[Publication, ...],
        then: Callable[[], object] | None = None,
        declare: Callable[[Any], object] | None = None,
    ) -> None:
        self.publications: tuple[Publication, ...] = publications
        self.then: Callable[[], object] | None = then
        self.declare: Callable[[Any], object] | None = declare
        self.unconfirmed: int = 0


class AmqpLink:
    """Keep a connection.

    Args:
        address: A URL of RabbitMQ.
        ends: Who is told.
    """

    def __init__(self, address: str, ends: AmqpEnds) -> None:
        self._address = address
        self._ends = ends
        self._outbox: deque[_Entry] = deque()
        self._jobs: deque[tuple[Callable[[Any], Any], asyncio.Future[Any]]] = deque()
        self._unconfirmed: dict[int, _Entry] = {}  # by the broker's number of the message
        self._last_number = 0
        self._received: list[bytes] = []
        self._parts = Parts()
        self._heard_at = 0.0
        self._is_up = False
        self._last: Callable[[Any], object] | None = None
        self._closing = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._keep, name="lifepool-amqp", daemon=True)

    # -- on the event loop ----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def write(
        self,
        *publications: Publication,
        then: Callable[[], object] | None = None,
        declare: Callable[[Any], object] | None = None,
    ) -> None:
        """Publish, as soon as there is a connection.

        Args:
            publications: What.
            then: Called when the broker has confirmed all of it.
            declare: Called before with the channel, in the thread.
        """
        self._outbox.append(_Entry(publications, then, declare))
        self._wake()

    def say(self, *publications: Publication) -> None:
        """Publish if there is a connection; else it is dropped, for it would be stale later."""
        if self._is_up:
            self.write(*publications)

    async def ask(self, job: Callable[[Any], Any]) -> Any:
        """Call ``job`` in the thread, with the connection; return what it returns.

        Raises:
            ConnectionError: If there is no connection, or it breaks.
            Exception: What it raises.
        """
        if not self._is_up:
            raise ConnectionError("there is no connection")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.append((job, answer))
        self._wake()
        return await answer

    def forget_unwritten(self) -> None:
        """Drop what was not confirmed: it was, or will be, seen to in another way."""
        self._outbox.clear()

    async def close(self, last: Callable[[Any], object] | None = None) -> None:
        """Publish what is left, if that goes quickly, call ``last`` with the channel, and disconnect."""
        self._last = last
        self._closing.set()
        self._wake()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, LAST_WORDS_S + 2 * ANSWER_S)
        if not self._thread.is_alive() and self._wake_write >= 0:
            for end in (self._wake_read, self._wake_write):
                os.close(end)
            self._wake_read = self._wake_write = -1

    def _wake(self) -> None:
        if self._wake_write >= 0:
            try:
                os.write(self._wake_write, b".")
            except BlockingIOError:
                return  # full: then it wakes anyway

    # -- in the thread --------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        pause = RETRY_FIRST_S
        while not self._closing.is_set():
            connection, was_up = None, False
            try:
                connection = _connected(self._address)
                self._use(connection)
                return
            except (amqp.AMQPError, OSError, TimeoutError) as error:
                reason = f"{type(error).__name__}: {error}"
            except Exception as error:
                logger.exception("lifepool failed in its dealings with RabbitMQ; it connects anew")
                reason = repr(error)
            finally:
                was_up, self._is_up = self._is_up, False
                self._disconnect(connection)
            self._on_loop(self._ends.down, reason)
            pause = RETRY_FIRST_S if was_up else min(2 * pause, RETRY_LAST_S)
            self._closing.wait(pause)

    def _use(self, connection: Any) -> None:
        """Use the connection until it breaks, or all is said at the end."""
        channel = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._confirmed)
        self._last_number, self._heard_at = 0, time.monotonic()
        self._ends.set_up(channel, self._take)
        self._is_up = True
        self._on_loop(self._ends.up)
        beat, until = 0.0, float("inf")
        while True:
            now = time.monotonic()
            if now - beat > BEAT_S:
                beat = now
                self._publish(channel, _Entry((Publication("", _NOWHERE, b""),)))
            self._publish_all(channel)
            self._work(connection)
            if self._closing.is_set():
                until = min(until, now + LAST_WORDS_S)
                if now > until or not (self._outbox or self._unconfirmed):
                    if self._last is not None:
                        self._last(channel)
                    return
            self._read(connection, BEAT_S if until > now + BEAT_S else 0.05)
            if self._unconfirmed and time.monotonic() - self._heard_at > ANSWER_S:
                raise TimeoutError(f"the broker has not answered for {ANSWER_S:g} s")

    def _publish_all(self, channel: Any) -> None:
        while self._outbox:
            self._publish(channel, self._outbox.popleft())

    def _publish(self, channel: Any, entry: _Entry) -> None:
        if not self._unconfirmed:
            self._heard_at = time.monotonic()
        parts = [part for publication in entry.publications for part in publication.parts()]
        entry.unconfirmed = len(parts)
        numbers = range(self._last_number + 1, self._last_number + 1 + len(parts))
        self._last_number += len(parts)
        self._unconfirmed.update(dict.fromkeys(numbers, entry))  # before it breaks: then it is published once more
        if entry.declare is not None:
            entry.declare(channel)
        for part in parts:
            channel.basic_publish(amqp.Message(part.body, **part.properties), part.exchange, part.key)

    def _confirmed(self, number: int, multiple: bool) -> None:
        numbers = [each for each in self._unconfirmed if each <= number] if multiple else [number]
        for each in numbers:
            if (entry := self._unconfirmed.pop(each, None)) is not None:
                entry.unconfirmed -= 1
                if not entry.unconfirmed and entry.then is not None:
                    self._on_loop(entry.then)

    def _work(self, connection: Any) -> None:
        while self._jobs:
            job, answer = self._jobs.popleft()
            try:
                self._on_loop(_resolve, answer, job(connection), None)
            except (amqp.AMQPError, OSError) as error:
                self._on_loop(_resolve, answer, None, ConnectionError(str(error)))
                raise
            except Exception as error:
                self._on_loop(_resolve, answer, None, error)

    def _take(self, message: Any) -> None:
        if (whole := self._parts.add(message)) is not None:
            self._received.append(whole)

    def _read(self, connection: Any, seconds: float) -> None:
        """Wait for the broker or for work, and read all that is there."""
        sock = connection.sock
        ready = _readable(0 if _pending(sock) else seconds, sock.fileno(), self._wake_read)
        if self._wake_read in ready:
            try:
                while len(os.read(self._wake_read, 4096)) == 4096:
                    pass
            except BlockingIOError:
                pass
        while sock.fileno() in ready or _pending(sock):
            connection.drain_events(timeout=ANSWER_S)
            self._heard_at = time.monotonic()
            ready = _readable(0, sock.fileno())
        if self._received:
            received, self._received = self._received, []
            self._on_loop(self._deliver, received)

    def _deliver(self, received: list[bytes]) -> None:
        for data in received:
            self._ends.heard(data)

    def _disconnect(self, connection: Any) -> None:
        """Let go of a connection, whatever state it is in."""
        entries = list(dict.fromkeys(self._unconfirmed.values()))
        self._unconfirmed.clear()
        self._outbox.extendleft(entry for entry in reversed(entries) if entry.publications[0].key != _NOWHERE)
        self._parts, self._received = Parts(), []
        while self._jobs:
            _, answer = self._jobs.popleft()
            self._on_loop(_resolve, answer, None, ConnectionError("the connection broke"))
        if connection is not None:
            try:
                if self._closing.is_set():
                    connection.close()
            except Exception as error:
                logger.debug("while the connection was closed: %r", error)
            connection.collect()

    def _on_loop(self, call: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            logger.debug("the event loop has ended before its connection to RabbitMQ")


def _connected(address: str) -> Any:
    parts = urlsplit(address)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port or _DEFAULT_PORTS[parts.scheme]}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        ssl=parts.scheme == "amqps",
        connect_timeout=ANSWER_S / 2,
        read_timeout=ANSWER_S,
        write_timeout=2 * ANSWER_S,
    )
    try:
        connection.connect()
    except BaseException:
        connection.collect()
        raise
    return connection


def _readable(seconds: float, *files: int) -> list[int]:
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return [file for file, _ in poll.poll(1000 * seconds)]


def _pending(sock: Any) -> bool:
    """Return whether TLS has read what it has not passed on."""
    pending = getattr(sock, "pending", None)
    return bool(pending is not None and pending())


def _resolve(answer: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value)
