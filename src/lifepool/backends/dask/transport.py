"""The client's end of Dask: the scheduler says where workers are, calls go straight to the nodes beside them.

A call is sent to the node with the smallest share of its slots taken, and to no other: so the client knows what is
lost with a node, and no two nodes can run the same call. As long as there is no node, calls wait here.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from distributed.security import Security

from lifepool.backends.dask.link import NodeLink
from lifepool.backends.dask.scheduler import SchedulerLink
from lifepool.backends.remote.messages import HELLO, VERSION
from lifepool.backends.remote.urls import signer_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.backends.remote.messages import Message, Signer
    from lifepool.backends.remote.transport import TransportListener
    from lifepool.backends.remote.urls import ClusterUrl

#: The port of a Dask scheduler, unless the URL says otherwise.
PORT = 8786


def make_transport(url: ClusterUrl) -> DaskTransport:
    """Make the transport of a URL such as ``dask+tcp://localhost:8786``."""
    return DaskTransport(url, signer_for(url))


class DaskTransport:
    """Carry messages over connections of Dask's.

    Args:
        url: Of the scheduler.
        signer: Tells a node that this client has the same secret.
    """

    wait_for_nodes_s: float = 3.0  # the first client of a cluster has its nodes started
    tells_clocks: bool = False

    def __init__(self, url: ClusterUrl, signer: Signer) -> None:
        self.where: str = url.where
        address = url.address.rstrip("/")
        self._address = address if urlsplit(address).port else f"{address}:{PORT}"
        self._queue = url.queue
        self._signer = signer
        self._is_up = False
        self._waiting: dict[str, Message] = {}  # calls, by their ids, oldest first
        self._links: dict[str, NodeLink] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self._scheduler: SchedulerLink | None = None

    async def open(self, listener: TransportListener, client: str) -> None:
        """Begin to connect."""
        self._listener = listener
        arguments: dict[str, Any] = Security().get_connection_args("client")
        hello = self._signer.sign(HELLO, {"client": client})
        greeting = {"client": client, "version": VERSION, "hello": hello[:2]}
        self._make_link = partial(NodeLink, greeting=greeting, queue=self._queue, arguments=arguments, owner=self)
        self._scheduler = SchedulerLink(self._address, arguments, self)
        self._scheduler.open()

    def now(self) -> float:
        """Return the time here: each node finds out by how much its own differs."""
        return time.time()

    def send(self, calls: Sequence[tuple[str, Message]]) -> None:
        """Send calls to nodes, or keep them until there is one."""
        self._waiting.update(calls)
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting and (link := self._freest()) is not None and link.node is not None:
            id = next(iter(self._waiting))
            link.send(id, self._waiting.pop(id))
            self._listener.sent_to(link.node, [id])

    def _freest(self) -> NodeLink | None:
        return min((link for link in self._links.values() if link.is_open), key=NodeLink.rank, default=None)

    def broadcast(self, message: Message) -> None:
        """Send to all nodes that are attached."""
        for link in self._links.values():
            link.tell(message)

    async def take_back(self, calls: Sequence[tuple[str, Message]]) -> set[str]:
        """Take back what waits here; all else is on its way no more, for it was sent."""
        return {id for id, _ in calls if self._waiting.pop(id, None) is None}

    async def close(self) -> None:
        """Disconnect from everything."""
        if self._scheduler is not None:
            await self._scheduler.close()
        links, self._links = list(self._links.values()), {}
        self._waiting, self._is_up = {}, False
        await asyncio.gather(*self._ends, *(link.close() for link in links))

    # -- SchedulerEnds --------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Tell the backend."""
        self._is_up = True
        self._listener.connected()

    def down(self, reason: str) -> None:
        """Tell the backend, and give it back what waits here; nodes stay attached as long as they are there."""
        self._is_up = False
        waiting, self._waiting = list(self._waiting), {}
        self._listener.disconnected(reason)
        if waiting:
            self._listener.unsent(waiting)

    def workers(self, addresses: set[str]) -> None:
        """Connect to workers that have come; let those be that are gone, once they are not attached any more."""
        for address in addresses - self._links.keys():
            self._links[address] = self._make_link(address)
        for address in self._links.keys() - addresses:
            link = self._links[address]
            if not link.is_attached:
                del self._links[address]
                if link.node is not None:  # it has just broken off, and will not be back
                    self.lost(link.node, "the scheduler no longer knows it")
                ending = asyncio.create_task(link.close())
                self._ends.add(ending)
                ending.add_done_callback(self._ends.discard)

    # -- NodeOwner ------------------------------------------------------------------------------------------------

    def attached(self, *, again: bool) -> None:
        """Have the backend ask what became of its calls, if messages may have got lost."""
        if again and self._is_up:  # else it does so when the scheduler is back
            self._listener.connected()

    def received(self, message: Message) -> None:
        """Pass a message on."""
        self._listener.received(message)

    def unsent(self, ids: list[str]) -> None:
        """Have the backend send calls anew."""
        self._listener.unsent(ids)

    def freed(self) -> None:
        """Send what waits."""
        self._send_waiting()

    def lost(self, node: str, reason: str) -> None:
        """Tell the backend."""
        self._listener.node_lost(node, reason)
