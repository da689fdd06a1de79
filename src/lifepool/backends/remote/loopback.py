"""A cluster within this process: the same messages, nodes with real local pools, no server. For tests.

``LoopbackCluster`` is the broker: it has a queue of calls and knows its clients and its nodes. It can be cut off, and
lose a node without a word.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lifepool.backends.remote.backend import RemoteBackend
from lifepool.backends.remote.messages import Message, Signer
from lifepool.backends.remote.node import NodeAgent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from lifepool.backends.remote.local_pool import LocalPool
    from lifepool.backends.remote.transport import TransportListener


class LoopbackCluster:
    """The broker, in memory.

    Args:
        secret: Shared by clients and nodes.

    Attributes:
        queue: Packed calls that no node has taken, with their ids.
        nodes: The nodes that are there.
        is_cut: Whether nothing goes through.
    """

    def __init__(self, secret: str | None = None) -> None:
        self.secret = secret
        self.queue: deque[tuple[str, bytes]] = deque()
        self.nodes: list[LoopbackNode] = []
        self.is_cut: bool = False
        self._clients: dict[str, LoopbackTransport] = {}
        self._kept: list[tuple[str, Message]] = []  # posted while it was cut
        self._claimed: set[str] = set()

    def backend(self, **options: Any) -> RemoteBackend:
        """Make a backend for ``Pool(backend=...)``."""
        return RemoteBackend(LoopbackTransport(self), Signer(self.secret), **options)

    @asynccontextmanager
    async def node(self, pool: LocalPool, allow: Iterable[str] = ("tests", "builtins")) -> AsyncIterator[LoopbackNode]:
        """Have a node for a while; it is drained at the end, unless it was lost before."""
        node = LoopbackNode(self, pool, allow)
        self.nodes.append(node)
        node.agent.start()
        self.serve()
        try:
            yield node
        finally:
            if node in self.nodes:
                await node.agent.drain(5)
                await node.agent.close()
                self.nodes.remove(node)

    # -- faults ---------------------------------------------------------------------------------------------------

    async def lose(self, node: LoopbackNode) -> None:
        """Have a node vanish: nothing that it still sends arrives."""
        self.nodes.remove(node)
        node.is_lost = True
        await node.agent.close()

    def cut(self) -> None:
        """Have nothing go through until ``mend``."""
        self.is_cut = True
        for client in self._clients.values():
            client.listener.disconnected("it was cut")

    def mend(self, *, forget: bool = False) -> None:
        """Have all go through again; ``forget``: calls that no node has taken are gone, as without persistence."""
        self.is_cut = False
        if forget:
            self.queue.clear()
        for client in self._clients.values():
            client.listener.connected()
        for node in self.nodes:
            node.agent.repeat_taken()
        kept, self._kept = self._kept, []
        for client_id, message in kept:
            self.to_client(client_id, message)
        self.serve()

    # -- carrying -------------------------------------------------------------------------------------------------

    def join(self, client: str, transport: LoopbackTransport) -> None:
        """Take in a client."""
        self._clients[client] = transport

    def part(self, client: str) -> None:
        """Let a client go."""
        self._clients.pop(client, None)

    def serve(self) -> None:
        """Give calls to nodes that have free slots."""
        for node in self.nodes:
            while self.queue and not self.is_cut and node.is_free():
                node.agent.take(Message.unpack(self.queue.popleft()[1]), node.free)

    def to_nodes(self, message: Message) -> None:
        """Send to all nodes."""
        if not self.is_cut:
            for node in list(self.nodes):
                node.agent.control(message)

    def to_client(self, client: str, message: Message) -> None:
        """Send to one client, in the next turn of the loop."""
        if self.is_cut:
            self._kept.append((client, message))
        elif (transport := self._clients.get(client)) is not None:
            asyncio.get_running_loop().call_soon(transport.deliver, message)

    def to_all_clients(self, message: Message) -> None:
        """Send to every client."""
        if not self.is_cut:
            for client in list(self._clients):
                self.to_client(client, message)

    def claim(self, id: str) -> bool:
        """Return whether nobody has claimed this call before."""
        if id in self._claimed:
            return False
        self._claimed.add(id)
        return True


class LoopbackNode:
    """A node in this process, and the outlet of its agent."""

    skew_s: float = 0.0

    def __init__(self, cluster: LoopbackCluster, pool: LocalPool, allow: Iterable[str]) -> None:
        self.is_lost = False
        self._cluster = cluster
        self._pool = pool
        self.agent: NodeAgent = NodeAgent(pool, self, Signer(cluster.secret), allow)

    def is_free(self) -> bool:
        """Return whether it has a slot for one more call."""
        return len(self.agent.running) < self._pool.max_workers

    def free(self) -> None:
        """Have the cluster look for a call for the slot that is free."""
        asyncio.get_running_loop().call_soon(self._cluster.serve)

    def now(self) -> float:
        """Return the one clock that there is."""
        return time.time()

    def post(self, client: str, message: Message) -> None:
        """Send to one client."""
        if not self.is_lost:
            self._cluster.to_client(client, message)

    def announce(self, message: Message) -> None:
        """Send to all clients."""
        if not self.is_lost:
            self._cluster.to_all_clients(message)

    async def claim(self, id: str, client: str, seconds: float) -> bool:
        """Return whether this call is here for the first time."""
        return self._cluster.claim(id)

    async def fetch(self, id: str) -> bytes:
        """Return nothing: payloads are in their messages."""
        return b""


class LoopbackTransport:
    """The client's end."""

    where = "loopback"
    wait_for_nodes_s: float = 0.2
    tells_clocks: bool = False

    def __init__(self, cluster: LoopbackCluster) -> None:
        self.listener: TransportListener
        self._cluster = cluster
        self._client = ""

    async def open(self, listener: TransportListener, client: str) -> None:
        """Connect at once."""
        self.listener, self._client = listener, client
        self._cluster.join(client, self)
        if not self._cluster.is_cut:
            listener.connected()

    def deliver(self, message: Message) -> None:
        """Take a message from the cluster."""
        self.listener.received(message)

    def now(self) -> float:
        """Return the one clock that there is."""
        return time.time()

    def send(self, calls: Sequence[tuple[str, Message]]) -> None:
        """Queue calls."""
        self._cluster.queue.extend((id, message.pack()) for id, message in calls)
        self._cluster.serve()

    def broadcast(self, message: Message) -> None:
        """Send to all nodes."""
        self._cluster.to_nodes(message)

    async def take_back(self, calls: Sequence[tuple[str, Message]]) -> set[str]:
        """Remove calls from the queue."""
        wanted = {id for id, _ in calls}
        queued = {id for id, _ in self._cluster.queue}
        self._cluster.queue = deque(entry for entry in self._cluster.queue if entry[0] not in wanted)
        return wanted - queued

    async def close(self) -> None:
        """Leave."""
        self._cluster.part(self._client)
