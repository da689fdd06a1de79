"""A lasting connection to Redis: writes many commands at a time, listens, and comes back by itself when it breaks.

What was to be written is kept until it was. If the connection breaks while it is written, it is written once more: what
is read twice is noticed by its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import RedisError

from lifepool.backends.celery.redis_connection import Command, RedisConnection, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds after which an answer that has not come means that the connection is broken, though nobody says so.
ANSWER_S = 2.0
#: Seconds of a blocking read: after it, it is asked again. Signs of life notice a server that hangs long before.
BLOCK_S = 20.0
#: Seconds between two attempts to connect, doubling from the first to the last.
RETRY_FIRST_S, RETRY_LAST_S = 0.05, 0.5
#: Seconds between two signs of life, which notice a connection that hangs, and for the answer to one. With a node's own
#: beat that is less than a node may be silent: else nodes would seem dead while this client is cut off.
BEAT_S, PROBE_S = 0.5, 1.5
#: Seconds that writing what is left may take at the end.
LAST_WORDS_S = 1.0
#: Times that the clock of the server is read at first, at most, and the round trip that is short enough: it may have
#: been a long way there and a short one back.
CLOCK_READS, CLOCK_DOUBT_S = 3, 0.3
#: Messages taken at once.
MOST_TAKEN = 200
#: Commands written at once.
MOST_AT_ONCE = 500


class _Entry:
    """Commands that are written together.

    Args:
        commands: They.
        then: Called when they were written.
        answers: Waits for what the server says to them; such an entry is written once at most.
    """

    __slots__ = ("answers", "commands", "then")

    def __init__(
        self,
        commands: tuple[Command, ...],
        then: Callable[[], object] | None = None,
        answers: asyncio.Future[list[Any]] | None = None,
    ) -> None:
        self.commands: tuple[Command, ...] = commands
        self.then: Callable[[], object] | None = then
        self.answers: asyncio.Future[list[Any]] | None = answers

    def done(self, answers: list[Any]) -> None:
        """Pass on the answers."""
        if self.answers is not None and not self.answers.done():
            self.answers.set_result(answers)
        if self.then is not None:
            self.then()

    def fail(self, error: Exception) -> None:
        """Tell whoever waits for the answers that there are none."""
        if self.answers is not None and not self.answers.done():
            self.answers.set_exception(error)


class Ends(Protocol):
    """Who is told of the connection.

    All is called on the event loop.
    """

    def up(self) -> None:
        """Take note that the connection is there."""

    def down(self, reason: str) -> None:
        """Take note that it is not, and is tried again."""

    def heard(self, data: bytes) -> None:
        """Take what was published on the channel."""

    def signs_of_life(self) -> list[Command]:
        """Return what to write now and then, so that others know of us."""


class RedisLink:
    """Keep a connection.

    Args:
        address: A URL of Redis.
        channel: Listened to.
        ends: Who is told.
        inbox: A list from which everything is taken and given to ``ends.heard``, if there is one.
    """

    def __init__(self, address: str, channel: str, ends: Ends, inbox: str | None = None) -> None:
        self._address = address
        self._channel = channel
        self._ends = ends
        self._inbox = inbox
        self._outbox: deque[_Entry] = deque()
        self._sources: dict[Callable[[], list[Command]], None] = {}
        self._has_more = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._offset = 0.0
        self._doubt_s = float("inf")  # the round trip in which it was found out
        self._redis: RedisConnection | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def now(self) -> float:
        """Return seconds since the epoch by the clock of the server, which all that are connected to it share."""
        return time.time() + self._offset

    def write(self, *commands: Command, then: Callable[[], object] | None = None) -> None:
        """Write commands, as soon as there is a connection; their answers are not looked at.

        Args:
            commands: What is written.
            then: Called when it was.
        """
        self._outbox.append(_Entry(commands, then))
        self._has_more.set()

    def write_from(self, source: Callable[[], list[Command]]) -> None:
        """Write what a source has by the time when it can be written: until then it may gather more."""
        self._sources[source] = None
        self._has_more.set()

    def forget_unwritten(self) -> None:
        """Drop what was not written: it was, or will be, seen to in another way."""
        for entry in self._outbox:
            entry.fail(ConnectionError("the connection broke"))
        self._outbox.clear()

    def say(self, *commands: Command) -> None:
        """Write commands if there is a connection; else they are dropped, for they would be stale later."""
        if self._redis is not None:
            self.write(*commands)

    async def ask(self, *commands: Command) -> list[Any]:
        """Write commands, together with others, and return their answers.

        Raises:
            ConnectionError: If there is no connection, or it breaks; then they may have been executed or not.
        """
        if self._redis is None:
            raise ConnectionError("there is no connection")
        answers: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._outbox.append(_Entry(commands, answers=answers))
        self._has_more.set()
        return await answers

    async def close(self) -> None:
        """Write what is left, if that goes quickly, and disconnect."""
        if self._redis is not None and (self._outbox or self._sources):
            self._is_empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._is_empty.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.forget_unwritten()

    # -- inside ---------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        pause = RETRY_FIRST_S
        while True:
            try:
                await self._use()
            except (RedisError, OSError, TimeoutError) as error:
                reason = f"{type(error).__name__}: {error}"
            except Exception as error:
                logger.exception("lifepool failed in its dealings with Redis; it connects anew")
                reason = repr(error)
            finally:
                was_up, self._redis = self._redis is not None, None
            self._ends.down(reason)
            pause = RETRY_FIRST_S if was_up else min(2 * pause, RETRY_LAST_S)
            await asyncio.sleep(pause)

    async def _use(self) -> None:
        """Connect, and use the connections until one breaks; raise what it breaks with.

        One of them notices that the server has gone silent. On the others, what is large may take its time.
        """
        async with contextlib.AsyncExitStack() as connections:

            async def connected() -> RedisConnection:
                return await connections.enter_async_context(await connect(self._address, ANSWER_S))

            probe, bulk, channel = await connected(), await connected(), await connected()
            self._doubt_s = float("inf")
            for _ in range(CLOCK_READS):
                await self._read_clock(probe)
                if self._doubt_s < CLOCK_DOUBT_S:
                    break
            async with asyncio.timeout(ANSWER_S):
                await channel.ask(("SUBSCRIBE", self._channel))  # nothing is missed that is said from now on
            inbox = None if self._inbox is None else await connected()
            jobs = [self._write_all(bulk), self._live(probe), self._listen(channel)]
            if inbox is not None and self._inbox is not None:
                jobs.append(self._take_all(inbox, self._inbox))
            self._redis = bulk
            self._ends.up()
            await _until_one_fails(jobs)

    async def _read_clock(self, probe: RedisConnection) -> None:
        """Ask the server for its time; believe it if the answer came quickly, compared with those before."""
        before = time.time()
        async with asyncio.timeout(ANSWER_S):
            ((seconds, micros),) = await probe.ask(("TIME",))
        after = time.time()
        self._doubt_s *= 1.01  # both clocks drift apart, so that some later answer counts again
        if after - before <= self._doubt_s:
            self._doubt_s = max(after - before, 1e-4)
            self._offset = int(seconds) + int(micros) / 1e6 - (before + after) / 2

    async def _write_all(self, redis: RedisConnection) -> None:
        while True:
            self._has_more.clear()
            batch = self._next_batch()
            if not batch:
                self._is_empty.set()
                await self._has_more.wait()
                continue
            try:
                answers = await redis.ask(*[command for entry in batch for command in entry.commands])
            except BaseException as error:
                for entry in batch:
                    entry.fail(ConnectionError(str(error)))  # not again: it may have been executed
                self._outbox.extendleft(entry for entry in reversed(batch) if entry.answers is None)
                raise
            start = 0
            for entry in batch:
                end = start + len(entry.commands)
                entry.done(answers[start:end])
                start = end

    def _next_batch(self) -> list[_Entry]:
        sources, self._sources = self._sources, {}
        for source in sources:
            if commands := source():
                self._outbox.append(_Entry(tuple(commands)))
        batch, room = [], MOST_AT_ONCE
        while self._outbox and room > 0:
            batch.append(self._outbox.popleft())
            room -= len(batch[-1].commands)
        return batch

    async def _live(self, probe: RedisConnection) -> None:
        while True:
            if signs := self._ends.signs_of_life():
                async with asyncio.timeout(PROBE_S):
                    await probe.ask(*signs)
            await self._read_clock(probe)
            await asyncio.sleep(BEAT_S)

    async def _listen(self, channel: RedisConnection) -> None:
        while True:
            kind, _, data = await channel.hear()
            if kind == b"message":
                self._ends.heard(data)

    async def _take_all(self, redis: RedisConnection, inbox: str) -> None:
        while True:
            (taken,) = await redis.ask(("BLMPOP", BLOCK_S, 1, inbox, "LEFT", "COUNT", MOST_TAKEN))
            for data in taken[1] if taken else ():
                self._ends.heard(data)


async def _until_one_fails(jobs: list[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
