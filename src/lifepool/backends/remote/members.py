"""The nodes of a cluster, as one client knows them: from what they announce, and from their silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Seconds between two announcements of a node.
BEAT_S = 0.5
#: Seconds of silence after which a node counts as gone: a busy machine may well be late by two or three beats.
SILENCE_S = 3.0


@dataclass(slots=True)
class Member:
    """A node that was heard of.

    Attributes:
        node: Its id; a program that is started anew has another one.
        host: The name of its machine.
        pid: Its process there.
        slots: Tasks that it runs at the same time.
        running: Tasks that it runs now, of all clients.
        draining: Whether it takes no more.
        heard: Instant of its last announcement.
        refused: Messages that it has refused, by reason.
        workers: Its workers, by state.
    """

    node: str
    host: str
    pid: int
    slots: int
    running: int
    draining: bool
    heard: float
    refused: dict[str, int]
    workers: dict[str, int]


class Members:
    """Keep the nodes that announce themselves.

    Attributes:
        ever: Whether any node was heard of.
    """

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self.ever: bool = False

    def __len__(self) -> int:
        return len(self._members)

    def all(self) -> list[Member]:
        """Return them all, in the order in which they came."""
        return list(self._members.values())

    def heard(self, head: dict[str, Any], now: float) -> bool:
        """Take an announcement; return whether the slots of the cluster may have changed."""
        node, left = head["node"], head["state"] == "gone"
        known = self._members.get(node)
        if left:
            return self._members.pop(node, None) is not None
        self.ever = True
        self._members[node] = member = Member(
            node=node,
            host=head["host"],
            pid=head["pid"],
            slots=head["slots"],
            running=head["running"],
            draining=head["state"] == "draining",
            heard=now,
            refused=head["refused"],
            workers=head["workers"],
        )
        return known is None or (known.slots, known.draining) != (member.slots, member.draining)

    def forget(self, node: str) -> bool:
        """Forget a node; return whether it was there."""
        return self._members.pop(node, None) is not None

    def silent(self, now: float) -> list[str]:
        """Return the nodes that were not heard of for too long."""
        return [each.node for each in self._members.values() if now - each.heard > SILENCE_S]

    def bear_with(self, now: float, node: str | None = None) -> None:
        """Give every node its time again, or one: nothing could be heard until now."""
        for member in self._members.values():
            if node in (None, member.node):
                member.heard = now

    def slots(self) -> int:
        """Return how many tasks those nodes run at the same time that take more."""
        return sum(member.slots for member in self._members.values() if not member.draining)
