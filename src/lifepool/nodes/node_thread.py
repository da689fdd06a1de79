"""A node agent with its pool on an event loop in a thread of its own, for engines whose own programs are not async."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lifepool.backends.remote.node import NodeAgent
from lifepool.nodes.task_logs import TaskLogs
from lifepool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lifepool.backends.remote.messages import Message, Signer
    from lifepool.backends.remote.transport import Outlet

logger: logging.Logger = logging.getLogger("lifepool.node")

#: Seconds beyond the drain timeout for the node's pool to end.
END_GRACE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """How a node is to run calls; as the arguments of ``Pool`` of the same names, unless said otherwise.

    Attributes:
        allow: Modules and functions that clients may call.
        drain_timeout: Seconds that calls under way have at the end of the node.
    """

    max_workers: int | None = None
    allow: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    initializer: str | None = None
    max_tasks_per_worker: int | None = None
    max_worker_memory: int | str | None = None
    drain_timeout: float = 30.0

    def pool(self) -> Pool:
        """Make the node's pool, whose logs go to the clients that want them."""
        pool = Pool(
            backend="local",
            max_workers=self.max_workers,
            preload=self.preload,
            initializer=self.initializer,
            max_tasks_per_worker=self.max_tasks_per_worker,
            max_worker_memory=self.max_worker_memory,
            drain_timeout=self.drain_timeout,
            timeout=None,
            name="node",
        )
        pool.add_hook(TaskLogs())
        return pool


class OpenOutlet(Protocol):
    """An outlet that has a connection of its own.

    Attributes:
        agent: It is set before ``open`` is called.
    """

    agent: NodeAgent

    def open(self) -> None:
        """Begin to connect, on the running event loop."""

    async def close(self) -> None:
        """Disconnect when all is said."""


def _take_all(agent: NodeAgent, messages: Sequence[Message], done: Callable[[], object], **options: bool) -> None:
    left = len(messages)

    def one_is_done() -> None:
        nonlocal left
        left -= 1
        if not left:
            done()

    for message in messages:
        agent.take(message, one_is_done, **options)


class NodeThread:
    """Run a node beside the engine's own program.

    Args:
        settings: How calls are run.
        signer: Makes and verifies messages.
        make_outlet: Makes the node's end of the engine, an ``Outlet`` and an ``OpenOutlet``, on the event loop.
    """

    def __init__(
        self,
        settings: NodeSettings,
        signer: Signer,
        make_outlet: Callable[[], Any],
    ) -> None:
        self._settings = settings
        self._signer = signer
        self._make_outlet = make_outlet
        self._agent: NodeAgent | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._is_up: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="lifepool-node", daemon=True)

    def start(self) -> int:
        """Start; return how many calls the node runs at the same time.

        Raises:
            Exception: What the start has failed with.
        """
        self._thread.start()
        return self._is_up.result()

    def take(
        self, messages: Sequence[Message], done: Callable[[], object], *, waits: bool = False, doubtful: bool = False
    ) -> None:
        """Give calls to the node, from any thread.

        Args:
            messages: Calls that came together.
            done: Called in the node's thread when it is done with all of them.
            waits: It has no slot for them now.
            doubtful: They may have been delivered before, to any node.
        """
        shares = waits or len(messages) > 1
        self._call(lambda agent: _take_all(agent, messages, done, shares=shares, doubtful=doubtful))

    def cancel(self, id: str) -> None:
        """Break off a call, from any thread."""
        self._call(lambda agent: agent.cancel([id]))

    def stop(self) -> None:
        """Drain and end; return when that is done."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(self._settings.drain_timeout + END_GRACE_S)

    def _call(self, action: Callable[[NodeAgent], object]) -> None:
        agent = self._agent
        if agent is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action, agent)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._is_up.done():
                logger.critical("the node has failed and ends", exc_info=error)
            else:
                self._is_up.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._settings.pool() as pool:
            outlet: Any = self._make_outlet()
            typed: Outlet = outlet
            agent = NodeAgent(pool, typed, self._signer, self._settings.allow)
            connection: OpenOutlet = outlet
            connection.agent = agent
            connection.open()
            agent.start()
            self._agent = agent
            self._is_up.set_result(pool.max_workers)
            try:
                await self._stop.wait()
                await agent.drain(self._settings.drain_timeout)
            finally:
                await agent.close()
                await connection.close()
