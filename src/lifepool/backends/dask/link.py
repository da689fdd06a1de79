"""A client's connection to the node of one Dask worker: made, lost, made again."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from distributed.core import connect

from lifepool.backends.dask.line import BYE, DONE, LOAD, MESSAGE, OPERATION, Item, Line, message_in, why

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lifepool.backends.remote.messages import Message

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds for which a node may take to be reached.
CONNECT_S = 2.0
#: Seconds in which a broken connection must be back, before its node is given up.
RETURN_S = 1.0
#: Seconds between two attempts to connect, doubling from the first to the last.
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 10.0
#: Seconds without a word after which others are preferred: nodes say how busy they are each half second.
SILENT_S = 1.5


class NodeOwner(Protocol):
    """Who is told of the connection."""

    def attached(self, *, again: bool) -> None:
        """Take note that the node is there: anew, or after a break in which messages may have got lost."""

    def received(self, message: Message) -> None:
        """Take a message of the node."""

    def unsent(self, ids: list[str]) -> None:
        """Take calls back that have not reached the node."""

    def freed(self) -> None:
        """Take note that the node may take more."""

    def lost(self, node: str, reason: str) -> None:
        """Take note that the node is gone."""


class NotThere(OSError):
    """The worker has no node for us."""


class NodeLink:
    """Keep a connection.

    Args:
        address: Of the Dask worker.
        greeting: What the node is told of the client.
        queue: The node must be of this one.
        arguments: What Dask needs to connect.
        owner: Who is told.

    Attributes:
        node: The id of the node, once it was there.
        sent: Ids of our calls that it is not done with.
        is_open: Whether it takes calls.
    """

    def __init__(
        self, address: str, greeting: Mapping[str, Any], queue: str, arguments: Mapping[str, Any], owner: NodeOwner
    ) -> None:
        self.address: str = address
        self.node: str | None = None
        self.sent: set[str] = set()
        self.is_open: bool = False
        self._slots = 1
        self._of_others = 0  # calls of other clients, when it last said how busy it is
        self._heard = 0.0
        self._is_trusted = False
        self._is_closing = False
        self._has_said_bye = False
        self._greeting = greeting
        self._queue = queue
        self._arguments = arguments
        self._owner = owner
        self._line: Line | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._keep())

    @property
    def is_attached(self) -> bool:
        """Whether the connection is there."""
        return self._line is not None

    def rank(self) -> tuple[bool, float]:
        """Return by how much others are to be preferred: the share of its slots that is taken."""
        is_silent = self._loop.time() - self._heard > SILENT_S
        return is_silent, (len(self.sent) + self._of_others) / self._slots

    def send(self, id: str, message: Message) -> None:
        """Send a call to the node, which must be attached."""
        assert self._line is not None  # noqa: S101
        self.sent.add(id)
        self._line.put_call(id, message)

    def tell(self, message: Message) -> None:
        """Send a message to the node, if it is attached."""
        if self._line is not None:
            self._line.put_message(message)

    async def close(self) -> None:
        """Write what is left and disconnect."""
        self._is_closing = True
        if self._line is not None:
            await self._line.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # -- inside ---------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        pause, said = RETRY_FIRST_S, ""
        while True:
            try:
                comm, node = await self._connect(CONNECT_S)
                pause, said = RETRY_FIRST_S, ""
                await self._stay(comm, node)
                continue
            except (OSError, TimeoutError) as error:
                reason = why(error)
                if reason != said:
                    logger.warning("the Dask worker at %s can't be used: %s", self.address, reason)
            except Exception as error:
                reason = repr(error)
                if reason != said:
                    logger.exception("lifepool failed in its dealings with a Dask worker; it connects anew")
            said = reason
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_LAST_S)

    async def _stay(self, comm: Any, node: str) -> None:
        """Use a node until there is no connection to it any more; then give it up."""
        self.node = node
        try:
            await self._use(comm, node)
        except Exception:
            logger.exception(
                "lifepool failed in its dealings with the Dask worker at %s, and gives it up", self.address
            )
        self.node = None
        self.sent.clear()
        if not self._is_closing:
            self._owner.lost(node, f"there is no connection to the Dask worker at {self.address}")
        if self._has_said_bye:
            await asyncio.sleep(RETURN_S)  # its worker ends as well: asking it for a node would only fill its log

    async def _use(self, comm: Any, node: str) -> None:
        """Use a connection until it breaks, and its successors to the same node."""
        again = False
        while True:
            self._heard, self._has_said_bye = self._loop.time(), False
            self._line = Line(comm, self._take)
            try:
                self._owner.attached(again=again)
                reason = await self._line.run()
            finally:
                self._line, self.is_open = None, False
            if self._is_closing or self._has_said_bye:
                return
            logger.debug("the Dask worker at %s: %s", self.address, reason)
            try:
                comm, who = await self._connect(RETURN_S)
            except (OSError, TimeoutError):
                return
            if who != node:  # the worker was started anew, at the same address
                comm.abort()
                return
            again = True
            self.sent.clear()  # what of it still runs, the node counts as it says how busy it is

    async def _connect(self, seconds: float) -> tuple[Any, str]:
        """Return a connection, and the id of the node at its other end.

        Raises:
            OSError: If there is none, or no node for us.
            TimeoutError: If it takes too long.
        """
        async with asyncio.timeout(2 * seconds):
            comm = await connect(self.address, timeout=seconds, **self._arguments)
            try:
                await comm.write({"op": OPERATION, "now": time.time(), **self._greeting})
                answer = await comm.read()
                self._check(answer)
            except BaseException:
                comm.abort()
                raise
        return comm, answer["node"]

    def _check(self, answer: Any) -> None:
        if not isinstance(answer, dict) or "node" not in answer:
            raise NotThere("it runs no node: is lifepool installed there? Its log says more")
        if answer["version"] != self._greeting["version"]:
            raise NotThere("its node has another version of lifepool")
        if answer["queue"] != self._queue:
            raise NotThere(f"its node is of the queue {answer['queue']!r}, not {self._queue!r}")
        self._is_trusted = answer["trusts"]

    def _take(self, item: Item) -> None:
        self._heard = self._loop.time()
        kind, *rest = item
        if kind == MESSAGE:
            self._owner.received(message_in(*rest))
        elif kind == DONE:
            self.sent.discard(rest[0])
        elif kind == LOAD:
            self._slots, running, is_open = rest
            self.is_open = is_open and self._is_trusted  # with another secret it would refuse each call unseen
            self._of_others = max(0, running - len(self.sent))
            self._owner.freed()
        elif kind == BYE:
            self.is_open, self._has_said_bye = False, True
            not_taken, self.sent = list(self.sent), set()
            self._owner.unsent(not_taken)
        else:
            logger.warning("a node at %s sent what is not known here: %r", self.address, kind)
