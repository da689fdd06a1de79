"""Look after the calls under way: those whose nodes are gone, that got lost, or that were cancelled in vain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from lifepool.backends.guard import logged
from lifepool.backends.remote import messages as msg
from lifepool.backends.remote.members import BEAT_S, SILENCE_S
from lifepool.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lifepool.backends.remote.availability import Availability
    from lifepool.backends.remote.calls import Calls, SentCall
    from lifepool.backends.remote.members import Members
    from lifepool.backends.remote.transport import Transport
    from lifepool.errors import BackendUnavailable

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds after which a call that was cancelled, and has no outcome yet, is cancelled once more.
CANCEL_AGAIN_S = 0.5
#: Seconds after which its slot is given up, whatever the node does.
CANCEL_LAST_S = 5.0
#: Seconds after which the calls without a deadline are lost that were under way when the connection broke.
LOST_CONTACT_S = 60.0
#: Seconds from the moment when messages go through again, or a node is gone, until calls that no node has are looked
#: for: time for nodes to say what they have.
SEARCH_AFTER_S = 1.5
#: Seconds from a search that has not found a call until it is searched for again: only then it is lost.
LOOK_AGAIN_S = 0.5
#: Seconds after which it is asked once more what became of the calls that were under way when the connection broke, and
#: the longest after which it is asked again; it doubles. An answer may have been lost after the first question, too: a
#: broker that has not noticed yet that the old connection is gone sends it there.
ASK_AGAIN_S, ASK_AGAIN_LAST_S = 1.0, 60.0
#: Seconds between two looks from which on the event loop has stood still: nothing was heard meanwhile.
STOOD_STILL_S = SILENCE_S / 2


class Owner(Protocol):
    """The backend, as its upkeep needs it."""

    def plan_flush(self) -> None:
        """Send what waits in the next turn of the loop."""

    def node_lost(self, node: str, reason: str) -> None:
        """Lose what the node had."""

    def give_back(self, sent: SentCall, error: Exception) -> None:
        """Answer for a call that has no answer of its own."""

    def unsent(self, ids: Sequence[str]) -> None:
        """Let calls wait again."""

    def lose(self, sent: SentCall, head: dict[str, Any]) -> None:
        """Report that the call is lost, or was not started."""

    def send_cancels(self, calls: Iterable[SentCall]) -> None:
        """Cancel calls on whatever node they are."""

    def ask(self, ids: list[str]) -> None:
        """Ask all nodes for calls: who has one says so, or what became of it."""

    def resize(self) -> None:
        """Tell the scheduler how many calls may be under way."""

    def why_unavailable(self) -> str | None:
        """Say why a call can't be sent now."""

    def unavailable(self, reason: str) -> BackendUnavailable:
        """Make the error for that."""


class Upkeep:
    """Look often while there is something to look after, else once a second.

    Args:
        owner: Who is told what was found.
        calls: The calls under way.
        members: The nodes.
        available: Whether calls go through.
        transport: Where calls on their way are looked for.
    """

    def __init__(
        self, owner: Owner, calls: Calls, members: Members, available: Availability, transport: Transport
    ) -> None:
        self._owner = owner
        self._calls = calls
        self._members = members
        self._available = available
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._searches: set[asyncio.Task[None]] = set()
        self._refuses = False  # whether calls were refused at the last look
        self._asked: list[str] = []  # calls that were under way when the connection broke
        self._ask_at = inf
        self._ask_pause = ASK_AGAIN_S
        self._looked = self._loop.time()
        self._task = self._loop.create_task(self._keep_up())

    def ask_again(self, ids: list[str]) -> None:
        """Ask again for calls, which have been asked for now, until each has its outcome."""
        self._asked, self._ask_pause = ids, ASK_AGAIN_S
        self._ask_at = self._loop.time() + ASK_AGAIN_S

    def hurry(self) -> None:
        """Look soon: there is something to look after."""
        self._wanted.set()

    async def close(self) -> None:
        """End."""
        tasks = [self._task, *self._searches]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_up(self) -> None:
        """Look after what is overdue: often while there is something to look after, else once a second."""
        look = logged(self._look, "look after the calls under way")
        while True:
            look()
            busy = len(self._calls) or self._available.is_down
            self._wanted.clear()
            # Not wait_for: of Python 3.11 that loses a cancellation which comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S / 2 if busy else 2 * BEAT_S):
                    await self._wanted.wait()
            await asyncio.sleep(BEAT_S / 10)  # it is asked for often, and needs to look seldom

    def _look(self) -> None:
        now, looked = self._loop.time(), self._looked
        self._looked = now
        if now - looked > STOOD_STILL_S:
            self._members.bear_with(now)
        if not self._available.is_down:
            for node in self._members.silent(now):
                self._owner.node_lost(node, f"it was not heard of for {SILENCE_S:g} s")
            self._search(now)
            if now >= self._ask_at:
                self._ask(now)
            if self._calls.waiting:
                self._owner.plan_flush()
        elif self._available.is_given_up(now):
            self._go_without_connection(now)
        self._look_after_cancelled(now)
        refuses = self._owner.why_unavailable() is not None
        if refuses is not self._refuses:
            self._refuses = refuses
            self._owner.resize()  # calls that wait for a slot are refused as well
            if refuses and not self._available.is_down:
                self._search_untaken(now)  # and those that wait for a node at the broker: there is none to take them

    def _go_without_connection(self, now: float) -> None:
        """Fail what has not left; lose what was under way, if that has lasted too long."""
        for sent in self._calls.waiting:
            self._owner.give_back(
                sent, self._owner.unavailable(self._owner.why_unavailable() or self._available.reason)
            )
        if now - (self._available.down_since or now) > LOST_CONTACT_S:
            for sent in self._calls:
                self._owner.lose(
                    sent, {"status": msg.LOST, "reason": f"there was no connection for {LOST_CONTACT_S:g} s"}
                )

    def _look_after_cancelled(self, now: float) -> None:
        again = []
        for sent in self._calls:
            if sent.cancelled is None:
                continue
            waited = now - sent.cancelled
            if waited > CANCEL_LAST_S:
                self._owner.give_back(sent, BackendError("it was cancelled, and its node did not answer"))
            elif waited > CANCEL_AGAIN_S * (sent.times_cancelled + 1):
                sent.times_cancelled += 1
                again.append(sent)
        if again and not self._available.is_down:
            self._owner.send_cancels(again)

    def _ask(self, now: float) -> None:
        self._asked = [id for id in self._asked if self._calls.get(id) is not None]
        self._ask_pause = min(2 * self._ask_pause, ASK_AGAIN_LAST_S)
        self._ask_at = now + self._ask_pause if self._asked else inf
        self._owner.ask(self._asked)

    def _search_untaken(self, now: float) -> None:
        for sent in self._calls:
            if sent.node is None and sent.message is not None:
                sent.search_at = now

    def _search(self, now: float) -> None:
        """Look for calls that no node has said to have; find out which are lost."""
        due = [sent for sent in self._calls if sent.search_at is not None and sent.search_at <= now]
        for sent in due:
            sent.search_at = None
        if due:
            task = self._loop.create_task(self._take_back(due))
            self._searches.add(task)
            task.add_done_callback(self._searches.discard)

    async def _take_back(self, calls: list[SentCall]) -> None:
        """Take back what is still on its way, to send it anew; what is neither there nor with a node is lost."""
        nodes = {member.node for member in self._members.all()}
        missing = [sent for sent in calls if sent.node not in nodes and sent.message is not None]
        envelopes = {id(sent.envelope): sent.envelope for sent in missing if sent.envelope is not None}.values()
        gone: set[str] = set()
        try:
            for found in await asyncio.gather(*(self._transport.take_back(each.calls) for each in envelopes)):
                gone |= found
        except Exception as error:
            logger.debug("could not look for calls on their way: %s", error)
            for sent in missing:
                sent.search_at = self._loop.time() + SEARCH_AFTER_S
            return
        asked_again: list[str] = []
        for sent in missing:
            if self._calls.get(sent.id) is not sent or sent.node in nodes:
                continue
            if sent.id in gone and not sent.is_missed:
                # A node may have taken it a moment ago, and says so in a moment.
                sent.is_missed, sent.search_at = True, self._loop.time() + LOOK_AGAIN_S
                asked_again.append(sent.id)
            elif sent.id in gone:
                self._owner.lose(
                    sent, {"status": msg.LOST, "reason": "its message was lost with the broker, or with a node"}
                )
            else:
                self._owner.lose(sent, {"status": msg.UNSTARTED})
        self._owner.ask(asked_again)
        asked = {sent.id for sent in missing}
        self._owner.unsent([id for each in envelopes for id, _ in each.calls if id not in gone and id not in asked])
