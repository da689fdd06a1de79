"""The nodes of a cluster, as one client knows them: from what they announce, and from their silence."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifepool.statistics import NodeSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two announcements of a node.
BEAT_S = 0.5
#: Seconds of silence after which a node counts as gone: a busy machine may well be late by two or three beats.
SILENCE_S = 3.0
#: Announcements from which the offset of a node's clock is taken: of so many one has come quickly.
_OFFSETS = 20
#: Nodes that were given up of which it is remembered what they had.
_MOST_GIVEN_UP = 100
#: Seconds by which the clock of a node must differ from ours to be worth a word in a call.
_CLOCK_S = 1.0


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
        offsets: By how many seconds its clock was ahead of ours, less the time that the announcement took: so the
            largest is the nearest.
        versions: Of its lifepool and its Python, if it says so.
        allow: What it runs.
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
    offsets: deque[float]
    versions: tuple[str, str]
    allow: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return its machine and its process there."""
        return f"{self.host}:{self.pid}"

    def snapshot(self, now: float) -> NodeSnapshot:
        """Return one look at it, at this monotonic instant."""
        return NodeSnapshot(
            node=self.node,
            name=self.name,
            state="draining" if self.draining else "ready",
            slots=self.slots,
            running=self.running,
            workers=self.workers,
            refused=self.refused,
            heard_s=max(0.0, now - self.heard),
            clock_offset_s=max(self.offsets, default=None),
            lifepool=self.versions[0],
            python=self.versions[1],
            allow=self.allow,
        )


class Members:
    """Keep the nodes that announce themselves.

    Args:
        wall_clock: Seconds since the epoch, by the clock of this machine.

    Attributes:
        ever: Whether any node was heard of.
        refused: Messages that nodes have refused since they were first heard of, by reason. Nodes that are gone are
            included.
        clocks: Seconds by which the clocks of those nodes are ahead that differ from ours by more than a second.
    """

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self.refused: Counter[str] = Counter()
        self.clocks: dict[str, float] = {}
        self._wall_clock = wall_clock
        self._members: dict[str, Member] = {}
        self._given_up: dict[str, list[str]] = {}  # ids of calls, by the node that was given up with them
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
            return self.forget(node)
        self.ever = True
        offsets = deque[float](maxlen=_OFFSETS) if known is None else known.offsets
        if "time" in head:
            offsets.append(head["time"] - self._wall_clock())
            self._note_clock(node, max(offsets))
        if known is not None:
            self.refused.update(Counter(head["refused"]) - Counter(known.refused))
        lifepool, python = head.get("versions", ("", ""))
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
            offsets=offsets,
            versions=(lifepool, python),
            allow=tuple(head.get("allow", ())),
        )
        return known is None or (known.slots, known.draining) != (member.slots, member.draining)

    def given_up(self, node: str, ids: list[str]) -> None:
        """Remember what a node had that was given up: it may be heard again, and still run that."""
        if ids:
            self._given_up[node] = ids
            if len(self._given_up) > _MOST_GIVEN_UP:
                del self._given_up[next(iter(self._given_up))]

    def still_runs(self, node: str) -> list[str]:
        """Return what a node that is heard again may still run, once; nothing for others."""
        return self._given_up.pop(node, [])

    def _note_clock(self, node: str, offset: float) -> None:
        if abs(offset) > _CLOCK_S:
            self.clocks[node] = round(offset, 2)
        else:
            self.clocks.pop(node, None)

    def forget(self, node: str) -> bool:
        """Forget a node; return whether it was there."""
        self.clocks.pop(node, None)
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
