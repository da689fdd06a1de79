"""What a node has for its clients, gathered and joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.remote.messages import Message

#: Bytes below which messages for one client are joined.
SMALL_BYTES = 16 * 1024


class Posts:
    """Gather what is to be sent to clients, and join it: a message of the broker costs as much as some small ones.

    Args:
        send: Called with a client and what it gets.
    """

    def __init__(self, send: Callable[[str, list[bytes]], object]) -> None:
        self._send = send
        self._posts: dict[str, list[bytes]] = {}  # by client

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self._posts)

    def add(self, client: str, message: Message) -> None:
        """Add a message."""
        self._posts.setdefault(client, []).append(message.pack())

    def flush(self) -> None:
        """Send what there is."""
        posts, self._posts = self._posts, {}
        for client, packed in posts.items():
            self._send(client, _joined(packed))


def _joined(packed: list[bytes]) -> list[bytes]:
    """Return messages joined to fewer; those that are large go by themselves."""
    joined: list[bytes] = []
    small: list[bytes] = []
    for each in packed:
        if len(each) < SMALL_BYTES:
            small.append(each)
        else:
            joined += [b"".join(small), each] if small else [each]
            small = []
    return [*joined, b"".join(small)] if small else joined
