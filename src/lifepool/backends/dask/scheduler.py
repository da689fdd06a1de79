"""The connection of a client to Dask's scheduler: has it start nodes, and asks it which workers there are."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from distributed.core import connect

from lifepool.backends.dask.line import why
from lifepool.backends.dask.plugin import NAME, packed

if TYPE_CHECKING:
    from collections.abc import Mapping

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds between two questions which workers there are; they notice a scheduler that is gone or hangs, too.
LOOK_S = 0.5
#: Seconds for which it may take to be reached, and to answer.
ANSWER_S = 1.0
#: Seconds for which all workers may take to start their nodes, before those are used that have.
START_S = 5.0
#: Seconds between two attempts to connect, doubling from the first to the last.
RETRY_FIRST_S, RETRY_LAST_S = 0.05, 0.5


class SchedulerEnds(Protocol):
    """Who is told of the scheduler."""

    def up(self) -> None:
        """Take note that the scheduler answers."""

    def down(self, reason: str) -> None:
        """Take note that it does not, and is tried again."""

    def workers(self, addresses: set[str]) -> None:
        """Take note of the workers that there are."""


class SchedulerLink:
    """Keep a connection to the scheduler.

    Args:
        address: Where it is, such as ``tcp://localhost:8786``.
        arguments: What Dask needs to connect.
        ends: Who is told.
    """

    def __init__(self, address: str, arguments: Mapping[str, Any], ends: SchedulerEnds) -> None:
        self._address = address
        self._arguments = arguments
        self._ends = ends
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        pause, reason = RETRY_FIRST_S, ""
        while True:
            was_up, before = False, reason
            try:
                async with _Connection(self._address, self._arguments) as connection:
                    workers = await connection.ask(ANSWER_S, op="ncores")
                    was_up = True
                    self._ends.up()
                    await self._use(connection, workers)
            except (OSError, TimeoutError) as error:
                reason = why(error)
            except Exception as error:
                reason = repr(error)
                if reason != before:
                    logger.exception("lifepool failed in its dealings with Dask's scheduler; it connects anew")
            self._ends.down(reason)
            pause = RETRY_FIRST_S if was_up else min(2 * pause, RETRY_LAST_S)
            await asyncio.sleep(pause)

    async def _use(self, connection: _Connection, workers: dict[str, int]) -> None:
        """Use the connection until it breaks; raise what it breaks with."""
        registering = asyncio.create_task(self._register())
        try:
            while True:
                if registering.done():
                    self._ends.workers(set(workers))
                    await asyncio.sleep(LOOK_S)
                else:
                    await asyncio.wait([registering], timeout=LOOK_S)
                workers = await connection.ask(ANSWER_S, op="ncores")
        finally:
            registering.cancel()
            await asyncio.gather(registering, return_exceptions=True)

    async def _register(self) -> None:
        """Have all workers start a node, those that are to come too; one that was registered before stays."""
        try:
            async with _Connection(self._address, self._arguments) as connection:
                answers = await connection.ask(
                    START_S, op="register_worker_plugin", plugin=packed(), name=NAME, idempotent=True
                )
            for worker, answer in answers.items():
                if answer.get("status") != "OK":
                    logger.warning("the Dask worker at %s has no node: %s", worker, answer.get("text", answer))
        except (OSError, TimeoutError) as error:
            logger.warning("not all Dask workers have said that they have a node: %s", why(error))


class _Connection:
    """Questions and answers over one connection."""

    def __init__(self, address: str, arguments: Mapping[str, Any]) -> None:
        self._address = address
        self._arguments = arguments
        self._comm: Any = None

    async def __aenter__(self) -> _Connection:
        self._comm = await connect(self._address, timeout=ANSWER_S, **self._arguments)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._comm.abort()

    async def ask(self, seconds: float, **question: Any) -> Any:
        """Return the answer to a question.

        Raises:
            OSError: If the connection breaks.
            TimeoutError: If there is none in so many seconds.
        """
        async with asyncio.timeout(seconds):
            await self._comm.write(question)
            return await self._comm.read()
