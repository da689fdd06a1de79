"""The client's end of Ray: knows the nodes that its driver process has attached, and sends each call to one of them.

A call goes to the node with the smallest share of its slots taken, and to no other: so the client knows what is lost
with a node, and no two nodes can run the same call. As long as there is no node, calls wait here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lifepool.backends.guard import logged
from lifepool.backends.ray import frames
from lifepool.backends.ray.frames import ALIVE, ATTACHED, BATCH, LARGE, LOST, UP, Frame, Load
from lifepool.backends.ray.process import END_S, DriverProcess
from lifepool.backends.remote.messages import VERSION, Message, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.backends.remote.transport import TransportListener
    from lifepool.backends.remote.urls import ClusterUrl

logger: logging.Logger = logging.getLogger("lifepool")

#: The ports of Ray's client server and of its global control service, unless the URL says otherwise.
CLIENT_PORT, GCS_PORT = 10001, 6379
#: Seconds without a word of a node after which it gets no calls: nodes announce themselves each half second. It is well
#: below the silence after which a node is given up, so that none is sent to one that was.
LATE_S = 1.5
#: Bytes a second that get through at the least: so long it is waited for a node that can't be heard behind them.
SLOWEST = 4 * 1024 * 1024
#: Seconds that a Ray which was started here may take to end.
END_LOCAL_S = 14.0
#: Seconds for which a start waits for nodes of a cluster, and of a Ray that has to be started first.
WAIT_S, WAIT_LOCAL_S = 30.0, 60.0


def make_transport(url: ClusterUrl) -> RayTransport:
    """Make the transport of a URL such as ``ray://localhost:10001``."""
    return RayTransport(url)


class Node:
    """A node that is attached.

    Args:
        number: The driver's name for it.
        id: Its own.
        load: How busy it is.
        now: The present instant.
    """

    def __init__(self, number: int, id: str, load: Load, now: float) -> None:
        self.number: int = number
        self.id: str = id
        self.sent: int = load.received
        self.unconfirmed: deque[str] = deque()  # ids of calls that it may not have got yet, oldest first
        self.batch: list[tuple[bool, Message]] = []
        self._busy_until = now
        self.take(load, now)

    def take(self, load: Load, now: float) -> None:
        """Take note of how busy it is."""
        self._load, self._heard = load, now
        while len(self.unconfirmed) > max(0, self.sent - load.received):
            self.unconfirmed.popleft()
        if load.coming:
            self._busy_until = now + load.coming / SLOWEST
        elif load.received >= self.sent:
            self._busy_until = now

    def leaves(self, size: int, now: float) -> None:
        """Take note that a batch is on its way to it: what comes after waits behind it."""
        if size > LARGE:
            self._busy_until = max(now, self._busy_until) + size / SLOWEST

    def is_busy(self, now: float) -> bool:
        """Return whether something large is on its way to it or from it, so that nothing can be heard of it."""
        return now < self._busy_until

    def takes_more(self, now: float) -> bool:
        """Return whether it takes calls; one that is silent has them lost soon."""
        return self._load.takes_more and (now - self._heard < LATE_S or self.is_busy(now))

    def rank(self) -> float:
        """Return by how much others are to be preferred: the share of its slots that is taken."""
        load = self._load
        of_others = load.running - (load.received - load.done)
        return (self.sent - load.done + max(0, of_others)) / load.slots


class RayTransport:
    """Carry messages to and from actors.

    Args:
        url: Of the cluster.
    """

    tells_clocks: bool = False

    def __init__(self, url: ClusterUrl) -> None:
        self._is_local = url.host is None
        self.where: str = f"{url.scheme}://{urlsplit(url.address).netloc}"
        self.wait_for_nodes_s: float = WAIT_LOCAL_S if self._is_local else WAIT_S
        self._url = url
        self._nodes: dict[int, Node] = {}
        self._known: set[str] = set()  # ids of nodes that were attached before
        self._waiting: dict[str, Message] = {}  # calls, by their ids, oldest first
        self._doubtful: dict[str, str] = {}  # calls that a node may have got, which alone gets them again
        self._is_up = False
        self._flush_planned = False
        self._process: DriverProcess | None = None

    async def open(self, listener: TransportListener, client: str) -> None:
        """Start the driver process."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        address = None if self._is_local else _address(self._url)
        settings = {"client": client, "address": address, "queue": self._url.queue, "cpus": self._url.cpus}
        environment = _LOCAL_ENVIRONMENT if self._is_local else {}
        environment = {**_ENVIRONMENT, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = DriverProcess(settings, environment, self, END_LOCAL_S if self._is_local else END_S)
        self._process.open()

    def now(self) -> float:
        """Return the time here: each node finds out by how much its own differs."""
        return time.time()

    def send(self, calls: Sequence[tuple[str, Message]]) -> None:
        """Send calls to nodes, or keep them until there is one."""
        self._waiting.update(calls)
        self._send_waiting()

    def _send_waiting(self) -> None:
        if not self._is_up:
            return
        now = self._loop.time()
        for id in list(self._waiting):
            wanted = self._doubtful.get(id)
            nodes = [node for node in self._nodes.values() if node.takes_more(now) and wanted in (None, node.id)]
            if nodes:
                self._send_to(min(nodes, key=Node.rank), id)
            elif wanted is None:
                break

    def _send_to(self, node: Node, id: str) -> None:
        self._doubtful.pop(id, None)
        node.sent += 1
        node.unconfirmed.append(id)
        node.batch.append((True, self._waiting.pop(id)))
        self._listener.sent_to(node.id, [id])
        self._plan_flush()

    def broadcast(self, message: Message) -> None:
        """Send to all nodes that are attached."""
        for node in self._nodes.values():
            node.batch.append((False, message))
        self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(logged(self._flush, "send to its nodes"))

    def _flush(self) -> None:
        self._flush_planned = False
        for node in self._nodes.values():
            if node.batch and self._process is not None:
                joined, node.batch = frames.join(node.batch), []
                node.leaves(len(joined), self._loop.time())
                self._process.put(Frame(BATCH, node.number, joined))

    async def take_back(self, calls: Sequence[tuple[str, Message]]) -> set[str]:
        """Take back what waits here; all else is on its way no more, for it was sent."""
        return {id for id, _ in calls if self._waiting.pop(id, None) is None}

    async def close(self) -> None:
        """End the driver process."""
        process, self._process = self._process, None
        if process is not None:
            if self._flush_planned:
                self._process = process
                self._flush()
                self._process = None
            await process.close()

    # -- DriverEnds -----------------------------------------------------------------------------------------------

    def took(self, frame: Frame) -> None:
        """Act on what the driver says."""
        if frame.kind == BATCH:
            self._took_reply(frame)
        elif frame.kind == ATTACHED:
            self._attached(frame)
        elif frame.kind == LOST:
            if (node := self._nodes.pop(frame.node, None)) is not None:
                self._listener.node_lost(node.id, str(frame.fields()["reason"]))
        elif frame.kind == ALIVE:
            self._bear_with_busy()
        elif frame.kind == UP:
            self._is_up = True
            self._listener.connected()
            self._send_waiting()

    def ended(self, reason: str) -> None:
        """Tell the backend, and give it back what waits here; nodes are attached anew by the next driver."""
        self._is_up = False
        waiting, self._waiting = list(self._waiting), {}
        if self._nodes:
            self._doubtful = {id: node.id for node in self._nodes.values() for id in node.unconfirmed}
            waiting += self._doubtful
            self._nodes.clear()
        self._listener.disconnected(reason)
        if waiting:
            self._listener.unsent(waiting)

    def _bear_with_busy(self) -> None:
        """Have the backend wait for nodes that can't be heard; with Ray's client, all nodes are behind one pipe."""
        now = self._loop.time()
        if any(node.is_busy(now) for node in self._nodes.values()):
            for node in self._nodes.values():
                self._listener.is_there(node.id)

    def _took_reply(self, frame: Frame) -> None:
        load, messages = frames.split_reply(frame.data)
        if (node := self._nodes.get(frame.node)) is not None:
            node.take(load, self._loop.time())
        try:
            for _, message in messages:
                self._listener.received(message)
        except Refused as refusal:
            logger.warning("refused a message from %s: %s", self.where, refusal)
        if self._waiting:
            self._send_waiting()

    def _attached(self, frame: Frame) -> None:
        fields = frame.fields()
        if fields["version"] != VERSION:
            logger.warning("a node of %s has another version of lifepool: use one version on all sides", self.where)
        load = Load(*(fields[name] for name in Load._fields))
        node = Node(frame.node, fields["node"], load, self._loop.time())
        self._nodes[frame.node] = node
        was_known = node.id in self._known
        self._known.add(node.id)
        if was_known and self._is_up:  # messages may have got lost; at a new start all are asked anyway
            self._listener.connected()
        self._send_waiting()


#: What Ray is told by its environment: no reconnecting of its own, which blocks; no questions to the internet.
_ENVIRONMENT = {
    "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "PYTHONUNBUFFERED": "1",
}
#: The same for a Ray that is started here: it listens on loopback alone.
_LOCAL_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def _address(url: ClusterUrl) -> str:
    """Return what ``ray.init`` takes."""
    parts = urlsplit(url.address)
    if url.scheme == "ray":
        return f"ray://{parts.netloc}" if parts.port else f"ray://{parts.netloc}:{CLIENT_PORT}"
    return parts.netloc if parts.port else f"{parts.netloc}:{GCS_PORT}"
