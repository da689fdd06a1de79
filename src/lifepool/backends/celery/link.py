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

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

logger: logging.Logger = logging.getLogger("lifepool")

Command = tuple[Any, ...]

#: Seconds after which an answer that has not come means that the connection is broken, though nobody says so.
ANSWER_S = 2.0
#: Seconds of a blocking read: after it, it is asked again.
BLOCK_S = 1.0
#: Seconds between two attempts to connect, doubling from the first to the last.
RETRY_FIRST_S, RETRY_LAST_S = 0.05, 0.5
#: Seconds between two signs of life, which notice a connection that hangs.
BEAT_S = 1.0
#: Seconds that writing what is left may take at the end.
LAST_WORDS_S = 1.0
#: Messages taken at once.
MOST_TAKEN = 200
#: Commands written at once.
MOST_AT_ONCE = 500


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
        self._outbox: deque[tuple[Command, Callable[[], object] | None]] = deque()
        self._has_more = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._offset = 0.0
        self._redis: Redis | None = None
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
        self._outbox.extend((command, None) for command in commands[:-1])
        self._outbox.append((commands[-1], then))
        self._has_more.set()

    def forget_unwritten(self) -> None:
        """Drop what was not written: it was, or will be, seen to in another way."""
        self._outbox.clear()

    def say(self, *commands: Command) -> None:
        """Write commands if there is a connection; else they are dropped, for they would be stale later."""
        if self._redis is not None:
            self.write(*commands)

    async def ask(self, *commands: Command) -> list[Any]:
        """Write commands and return their answers.

        Raises:
            ConnectionError: If there is no connection.
            RedisError: If it breaks.
        """
        if self._redis is None:
            raise ConnectionError("there is no connection")
        return await _execute(self._redis, commands)

    async def close(self) -> None:
        """Write what is left, if that goes quickly, and disconnect."""
        if self._redis is not None and self._outbox:
            self._is_empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._is_empty.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- inside ---------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        pause = RETRY_FIRST_S
        while True:
            try:
                async with self._connection(ANSWER_S) as probe, self._connection(None) as bulk:
                    await self._use(probe, bulk)
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

    def _connection(self, answer_s: float | None) -> Redis:
        return Redis.from_url(
            self._address,
            socket_connect_timeout=ANSWER_S / 2,
            socket_timeout=answer_s,
            retry=Retry(NoBackoff(), 0),
        )

    async def _use(self, probe: Redis, bulk: Redis) -> None:
        """Use the connections until one breaks; raise what it breaks with.

        Args:
            probe: Notices that the server has gone silent.
            bulk: For all else: what is large may take its time.
        """
        before = time.time()
        seconds, micros = await probe.time()
        self._offset = seconds + micros / 1e6 - (before + time.time()) / 2
        async with bulk.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(self._channel)
            await channel.get_message(timeout=ANSWER_S / 2)  # until it has: nothing is missed that is said from now on
            self._redis = bulk
            self._ends.up()
            jobs = [self._write_all(bulk), self._live(probe), self._listen(channel)]
            if self._inbox is not None:
                jobs.append(self._take_all(bulk, self._inbox))
            await _until_one_fails(jobs)

    async def _write_all(self, redis: Redis) -> None:
        while True:
            self._has_more.clear()
            batch = [self._outbox.popleft() for _ in range(min(len(self._outbox), MOST_AT_ONCE))]
            if not batch:
                self._is_empty.set()
                await self._has_more.wait()
                continue
            try:
                await _execute(redis, [command for command, _ in batch])
                for _, then in batch:
                    if then is not None:
                        then()
            except BaseException:
                self._outbox.extendleft(reversed(batch))
                raise

    async def _live(self, probe: Redis) -> None:
        while True:
            await _execute(probe, self._ends.signs_of_life() or [("PING",)])
            await asyncio.sleep(BEAT_S)

    async def _listen(self, channel: Any) -> None:
        while True:
            message = await channel.get_message(timeout=BLOCK_S)
            if message is not None and message["type"] == "message":
                self._ends.heard(message["data"])

    async def _take_all(self, redis: Redis, inbox: str) -> None:
        while True:
            taken: Any = await redis.execute_command("BLMPOP", BLOCK_S, 1, inbox, "LEFT", "COUNT", MOST_TAKEN)
            for data in taken[1] if taken else ():
                self._ends.heard(data)


async def _execute(redis: Redis, commands: Any) -> list[Any]:
    async with redis.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute()
    return answers


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
