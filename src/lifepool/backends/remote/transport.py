"""What an engine has to offer: carry messages, and say when it can't. The decisions are ``RemoteBackend``'s.

All calls happen on the event loop's thread, on either side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.backends.remote.messages import Message


class TransportListener(Protocol):
    """What a transport reports to: the backend."""

    def connected(self) -> None:
        """Take note that messages go through from now on."""

    def disconnected(self, reason: str) -> None:
        """Take note that nothing goes through; the transport goes on trying by itself."""

    def received(self, message: Message) -> None:
        """Take a message of a node: an outcome, progress, a log record, or that it is there."""

    def unsent(self, ids: Sequence[str]) -> None:
        """Take back calls that have not got out, as far as is known: they are sent again, under the same ids."""

    def sent_to(self, node: str, ids: Sequence[str]) -> None:
        """Take note of the node to which calls go, if the engine knows before that takes them: with it they are lost.

        It is called within ``Transport.send``, or later.
        """

    def is_there(self, node: str) -> None:
        """Take note that a node can't be heard for a moment, but is there as far as the engine knows."""

    def node_lost(self, node: str, reason: str) -> None:
        """Take note that a node is gone, if the engine finds out before its heartbeat is missed."""


class Transport(Protocol):
    """The client's end of an engine.

    Attributes:
        where: Its address without a password, for messages.
        wait_for_nodes_s: Seconds for which a start waits for the first node to be heard of.
        tells_clocks: Whether calls say by how much the clocks of nodes differ from that of ``now``: for an engine that
            neither has a clock of its own, nor has nodes find out by how much they differ from each client.
    """

    where: str
    wait_for_nodes_s: float
    tells_clocks: bool

    async def open(self, listener: TransportListener, client: str) -> None:
        """Begin to connect, and return; ``connected`` says when it has.

        Args:
            listener: Who is told.
            client: Names this client; outcomes are addressed to it.
        """

    def now(self) -> float:
        """Return seconds since the epoch by the clock that nodes use as well."""

    def send(self, calls: Sequence[tuple[str, Message]]) -> None:
        """Send calls, by their ids, to whichever nodes are free; those that can't be are given back by ``unsent``.

        Those that are given together are short: they may share a message of the engine's.
        """

    def broadcast(self, message: Message) -> None:
        """Send to all nodes, once; it may get lost."""

    async def take_back(self, calls: Sequence[tuple[str, Message]]) -> set[str]:
        """Take calls back that no node has taken; return which are no longer on their way.

        Args:
            calls: All that were given to ``send`` together, in the same order.

        Raises:
            Exception: If that can't be found out now.
        """

    async def close(self) -> None:
        """Disconnect and release everything. May be called in any state, and twice."""


class Outlet(Protocol):
    """The node's end of an engine, where messages go out. What comes in is given to the ``NodeAgent``.

    Attributes:
        skew_s: Seconds by which ``now`` may differ from what a client's transport says.
    """

    skew_s: float

    def now(self) -> float:
        """Return seconds since the epoch by the clock that clients use as well."""

    def post(self, client: str, message: Message) -> None:
        """Send to one client: kept and sent again until it has gone out."""

    def announce(self, message: Message) -> None:
        """Send to all clients, once; it may get lost."""

    async def claim(self, id: str, client: str, seconds: float) -> bool:
        """Return whether no node has claimed this call in so many seconds before; it is claimed then.

        An engine that has no memory shared by all nodes says yes.

        Raises:
            Refused: If the client is known to be gone.
            Exception: If that can't be found out now.
        """

    async def fetch(self, id: str) -> bytes:
        """Return the payload of a call, which has travelled apart from its message; nothing if it is not there."""
