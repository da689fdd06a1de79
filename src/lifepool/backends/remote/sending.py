"""Send the calls that wait: at once while nothing is on its way, gathered into one envelope while something is.

Theory of operation
    What an engine does for a message costs more than a short call itself. So short calls share envelopes, like small
    writes share a packet in Nagle's algorithm: while no node has taken the last envelope, calls are gathered; as soon
    as one has, or after ``GATHER_S``, what has come together leaves as one. A call that finds nothing on its way leaves
    in the same turn of the loop, so that a single one loses nothing. Calls that run long, or of which that is not known
    yet, are neither gathered nor held up.

    An envelope is a matter of transport alone: each call in it has its own signature, deadline, cancellation and
    outcome, and a node claims each of them for itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from lifepool.backends.guard import logged
from lifepool.backends.remote import messages as msg
from lifepool.backends.remote.calls import Envelope
from lifepool.backends.remote.pace import ENVELOPE_S
from lifepool.backends.remote.security import LONGEST_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.remote.calls import Calls, SentCall
    from lifepool.backends.remote.members import Members
    from lifepool.backends.remote.messages import Message, Signer
    from lifepool.backends.remote.pace import Pace
    from lifepool.backends.remote.transport import Transport

#: Seconds for which calls are gathered at most: all nodes may be busy with what runs long.
GATHER_S = 0.01
#: Seconds after which a call is looked for that no node has taken: it is sent anew before it would be stale.
SEARCH_UNTAKEN_S = LONGEST_WAIT_S / 2
#: Bytes of the arguments of a call that shares an envelope, and of all in it.
SMALL_BYTES, ENVELOPE_BYTES = 4 * 1024, 64 * 1024


class Deadlines(Protocol):
    """Who knows them: the engine."""

    def time_left(self, task: int) -> float | None:
        """Return the seconds that are left of a task's timeout."""


class Sending:
    """Send what waits.

    Args:
        calls: The calls of this client.
        members: The nodes: each may take an envelope while others are on their way.
        pace: Knows which calls are short.
        transport: Where they go.
        signer: Signs them.
        fields: Of every call.
        shares: Whether short calls may share an envelope.
        again: Called when it is time to flush once more.
    """

    def __init__(
        self, calls: Calls, members: Members, pace: Pace, transport: Transport, signer: Signer, fields: dict[str, Any],
        again: Callable[[], object], *, shares: bool = True,
    ) -> None:  # fmt: skip
        self._calls = calls
        self._members = members
        self._pace = pace
        self._transport = transport
        self._signer = signer
        self._fields = fields
        self._again = again
        self._shares = shares
        self._on_the_way: list[Envelope] = []
        self._timer: asyncio.TimerHandle | None = None

    def flush(self, deadlines: Deadlines) -> None:
        """Send all that may leave now; the rest when a node has taken an envelope, or a moment later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        short: list[tuple[SentCall, float]] = []
        for sent in self._calls.waiting:
            may_share = self._shares and sent.payload.size <= SMALL_BYTES
            run_s = self._pace.run_s(sent.payload.spec) if may_share else None
            if run_s is None:
                self._send([sent], deadlines, now)
            else:
                short.append((sent, run_s))
        if not short:
            return
        self._on_the_way = [each for each in self._on_the_way if not each.is_taken and now - each.sent_at < GATHER_S]
        if len(self._on_the_way) >= max(1, len(self._members)):
            self._timer = loop.call_later(GATHER_S, logged(self._again, "send calls to the cluster"))
            return
        for group in _groups(short):
            self._on_the_way.append(self._send(group, deadlines, now))

    def close(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _send(self, group: list[SentCall], deadlines: Deadlines, now: float) -> Envelope:
        issued = self._transport.now()
        envelope = Envelope(now)
        for sent in group:
            message = self._signed(sent, issued, deadlines.time_left(sent.task))
            self._calls.left(sent, message, envelope)
            sent.search_at = now + SEARCH_UNTAKEN_S
        self._transport.send(envelope.calls)
        return envelope

    def _signed(self, sent: SentCall, issued: float, left: float | None) -> Message:
        fields = {"id": sent.id, "fn": sent.payload.spec, "issued": issued, "left": left, **self._fields}
        if self._members.clocks and self._transport.tells_clocks:
            fields["clocks"] = self._members.clocks
        return self._signer.sign(msg.CALL, fields, sent.payload.pickled)


def _groups(short: list[tuple[SentCall, float]]) -> list[list[SentCall]]:
    """Return the calls in as few groups as an envelope's bounds allow."""
    groups: list[list[SentCall]] = []
    room_s, room = 0.0, 0
    for sent, run_s in short:
        if run_s > room_s or sent.payload.size > room:
            groups.append([])
            room_s, room = ENVELOPE_S, ENVELOPE_BYTES
        groups[-1].append(sent)
        room_s -= run_s
        room -= sent.payload.size
    return groups
