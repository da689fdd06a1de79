"""The node beside a Dask worker: an agent and its pool, on the worker's own event loop, behind its own port."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from functools import partial
from typing import Any

import dask
from distributed.core import Status

from lifepool.backends.dask.line import BYE, CALL, DONE, LOAD, MESSAGE, OPERATION, Item, Line, message_in
from lifepool.backends.remote.messages import HELLO, VERSION, Message, Refused, Signer
from lifepool.backends.remote.node import NodeAgent
from lifepool.backends.remote.security import SKEW_S
from lifepool.backends.remote.urls import secret_here
from lifepool.nodes.node_thread import NodeSettings

logger: logging.Logger = logging.getLogger("lifepool.node")

#: Seconds that calls under way have at the end: the process around a Dask worker kills it after eight.
DRAIN_S = 6.0
_ADVICE = "add {} to lifepool.allow in the Dask configuration of its workers, if they are meant to run that"


async def start(worker: Any) -> DaskNode:
    """Start the node of a Dask worker."""
    node = DaskNode(worker, Config())
    await node.start()
    return node


class Config:
    """How a node is to be: what Dask's configuration has under ``lifepool``.

    Raises:
        ValueError: If there is something wrong in it.
    """

    def __init__(self) -> None:
        given = {str(name).replace("-", "_"): value for name, value in dask.config.get("lifepool", {}).items()}
        allow = given.pop("allow", None)
        self.allow: tuple[str, ...] | None = None if allow is None else _names(allow)
        self.queue: str = str(given.pop("queue", "lifepool"))
        given["preload"] = _names(given.get("preload", ()))
        try:
            self.settings: NodeSettings = NodeSettings(**{"drain_timeout": DRAIN_S, **given})
        except TypeError as error:
            raise ValueError(f"the Dask configuration has what is not known under lifepool: {error}") from None


def _names(given: Any) -> tuple[str, ...]:
    """Return names that are given as a list, or as text with commas between them."""
    names = given.split(",") if isinstance(given, str) else given
    return tuple(str(name).strip() for name in names)


class DaskNode:
    """A node, and the outlet of its agent.

    Args:
        worker: Dask's.
        config: How the node is to be.
    """

    skew_s: float = SKEW_S

    def __init__(self, worker: Any, config: Config) -> None:
        self._worker = worker
        self._config = config
        settings = config.settings
        if settings.max_workers is None:
            settings = dataclasses.replace(settings, max_workers=worker.state.nthreads)
        self._pool = settings.pool()
        self._signer = Signer(secret_here())
        self._agent = NodeAgent(self._pool, self, self._signer, config.allow, _ADVICE, tells_taken=False)
        self._lines: dict[str, Line] = {}  # by client
        self._is_open = True
        self._has_ended = False

    async def start(self) -> None:
        """Start; have the worker know our connections."""
        await self._pool.start()
        self._agent.start()
        self._worker.handlers[OPERATION] = self._attach

    async def stop(self) -> None:
        """Finish what runs within the drain timeout, hand back the rest, and end."""
        self._is_open = False
        # Without its watchman, Dask's worker ends its event loop on SIGTERM, and us with it: nothing can finish then.
        await self._agent.drain(0 if self._agent.is_cancelled else self._config.settings.drain_timeout)
        await self._agent.close()
        self._worker.handlers.pop(OPERATION, None)
        self._has_ended = True
        for line in self._lines.values():
            line.put(BYE)
        await asyncio.gather(*(line.close() for line in list(self._lines.values())))
        await self._pool.aclose()

    # -- clients --------------------------------------------------------------------------------------------------

    async def _attach(
        self, comm: Any, client: str, version: int, now: float, hello: tuple[bytes, bytes], **_: Any
    ) -> Status:
        """Serve a client until its connection breaks."""
        ahead_s = now - self.now()
        answer = {"node": self._agent.node, "queue": self._config.queue, "version": VERSION, "trusts": True}
        try:
            self._signer.verify(Message(*hello), HELLO)
        except Refused as refusal:
            self._agent.count(refusal, "a client")
            answer["trusts"] = False
        await comm.write(answer)
        if version != VERSION:
            return Status.dont_reply
        self._lines[client] = line = Line(comm, partial(self._take, client, ahead_s))
        self._agent.announce()
        try:
            reason = await line.run()
        finally:
            if self._lines.get(client) is line:  # else it has come back before this was noticed
                del self._lines[client]
                self._agent.abandon(client)
        logger.debug("a client is gone: %s", reason)
        return Status.dont_reply

    def _take(self, client: str, ahead_s: float, item: Item) -> None:
        kind, *rest = item
        if self._has_ended:
            return  # the client knows: it has heard so, or will
        if kind == CALL:
            id, *message = rest
            self._agent.take(message_in(*message), partial(self._done, client, id), ahead_s=ahead_s)
        elif kind == MESSAGE:
            self._agent.control(message_in(*rest))
        else:
            logger.warning("a client sent what is not known here: %r", kind)

    def _done(self, client: str, id: str) -> None:
        if (line := self._lines.get(client)) is not None:
            line.put(DONE, id)

    # -- Outlet ---------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time of this machine: by how much that of a client differs, it says when it comes."""
        return time.time()

    def post(self, client: str, message: Message) -> None:
        """Send to one client. One that is away asks for what it has missed, when it is back."""
        if (line := self._lines.get(client)) is not None:
            line.put_message(message)

    def announce(self, message: Message) -> None:
        """Send to all clients, and say how busy the node is."""
        for line in self._lines.values():
            line.put_message(message)
            line.put(LOAD, self._pool.max_workers, len(self._agent.running), self._is_open)

    async def claim(self, id: str, client: str, seconds: float) -> bool:
        """Let the call run if its client is there: it has sent it to this node alone."""
        if client not in self._lines:
            raise Refused("abandoned", "its client is gone")
        return True

    async def fetch(self, id: str) -> bytes:
        """Return nothing: payloads come with their messages."""
        return b""
