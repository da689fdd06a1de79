"""The node's end of Celery on Redis: outcomes go to the lists of clients, announcements to their channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.backends.celery.link import RedisLink
from lifepool.backends.celery.names import Keys
from lifepool.backends.celery.posts import Posts
from lifepool.backends.celery.transport import CLIENT_S
from lifepool.backends.remote.messages import Message, Refused

if TYPE_CHECKING:
    from lifepool.backends.celery.redis_connection import Command
    from lifepool.backends.remote.node import NodeAgent
    from lifepool.backends.remote.urls import ClusterUrl


class RedisOutlet:
    """Send what an agent has to say.

    Args:
        url: Of the cluster.

    Attributes:
        agent: Whose; it is set before ``open`` is called.
    """

    skew_s: float = 0.5  # both sides estimate the clock of the server, with the time that its answer took

    def __init__(self, url: ClusterUrl) -> None:
        self.agent: NodeAgent
        self._keys = Keys(url.queue)
        self._link = RedisLink(url.address, self._keys.control, self)
        self._commands: list[Command] = []
        self._posts = Posts(self._add_commands)
        self._was_up = False

    def open(self) -> None:
        """Begin to connect."""
        self._link.open()

    async def close(self) -> None:
        """Disconnect when all is said."""
        await self._link.close()

    # -- Outlet ---------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time by the clock of the server."""
        return self._link.now()

    def post(self, client: str, message: Message) -> None:
        """Append to the client's list, which vanishes some time after the client."""
        self._posts.add(client, message)
        self._link.write_from(self._posted)

    def _posted(self) -> list[Command]:
        """Return the commands for all that has come together."""
        self._posts.flush()
        commands, self._commands = self._commands, []
        return commands

    def _add_commands(self, client: str, joined: list[bytes]) -> None:
        key = self._keys.replies(client)
        self._commands += [("RPUSH", key, *joined), ("EXPIRE", key, 4 * CLIENT_S)]

    def post_or_drop(self, client: str, message: Message) -> None:
        """Append to the client's list, if there is a connection."""
        key = self._keys.replies(client)
        self._link.say(("RPUSH", key, message.pack()), ("EXPIRE", key, 4 * CLIENT_S))

    def announce(self, message: Message) -> None:
        """Publish to all clients."""
        self._link.say(("PUBLISH", self._keys.nodes, message.pack()))

    async def claim(self, id: str, client: str, seconds: float) -> bool:
        """Claim a call, whose client must still be there."""
        claimed, is_there = await self._link.ask(
            ("SET", self._keys.claim(id), self.agent.node, "NX", "EX", int(seconds) + 1),
            ("EXISTS", self._keys.client(client)),
        )
        if not is_there:
            raise Refused("abandoned", "its client is gone")
        return bool(claimed)

    async def fetch(self, id: str) -> bytes:
        """Take the payload that travelled beside its message."""
        (payload,) = await self._link.ask(("GETDEL", self._keys.payload(id)))
        return payload or b""

    # -- Ends -----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Say again what a server that was away may have lost."""
        if self._was_up:
            self.agent.repeat_taken()
        self._was_up = True
        self.agent.announce()

    def down(self, reason: str) -> None:
        """Do nothing: what is to be said is kept."""

    def heard(self, data: bytes) -> None:
        """Give the agent what a client says to all nodes."""
        try:
            self.agent.control(Message.unpack(data))
        except Refused as refusal:
            self.agent.count(refusal, "what was published")

    def signs_of_life(self) -> list[Command]:
        """Return nothing: the agent announces itself."""
        return []
