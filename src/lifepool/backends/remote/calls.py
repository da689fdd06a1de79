"""The calls of one client that have no outcome yet."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.backends.remote.functions import RemoteCall
    from lifepool.backends.remote.messages import Message


class Envelope:
    """Calls that travel together.

    Attributes:
        calls: What was sent, in order, by their ids; it stays complete when some have their outcomes.
        sent_at: The instant at which it left.
        is_taken: Whether a node has it, or it came back.
    """

    __slots__ = ("calls", "is_taken", "sent_at")

    def __init__(self, sent_at: float) -> None:
        self.calls: list[tuple[str, Message]] = []
        self.sent_at: float = sent_at
        self.is_taken: bool = False


class SentCall:
    """A call that has no outcome yet.

    Attributes:
        id: The one that it has on its way; a task that is sent again gets a new one.
        task: The task's number.
        payload: What is sent.
        message: What was sent; None as long as it has not left.
        envelope: What it has left in.
        node: The node that has taken it, once that is known.
        cancelled: The instant at which it was cancelled.
        times_cancelled: How often its nodes were told again.
        search_at: The instant at which it is to be looked for.
        is_doubtful: Whether it came back, and may all the same have got out.
        is_missed: Whether it was looked for since it left, and was neither on its way nor with a node.
        was_taken: Whether a node had it since it left.
    """

    __slots__ = (
        "cancelled", "envelope", "id", "is_doubtful", "is_missed", "message", "node", "payload", "search_at",
        "task", "times_cancelled", "was_taken",
    )  # fmt: skip

    def __init__(self, id: str, task: int, payload: RemoteCall) -> None:
        self.id: str = id
        self.task: int = task
        self.payload: RemoteCall = payload
        self.message: Message | None = None
        self.envelope: Envelope | None = None
        self.node: str | None = None
        self.cancelled: float | None = None
        self.times_cancelled: int = 0
        self.search_at: float | None = None
        self.is_doubtful: bool = False
        self.is_missed: bool = False
        self.was_taken: bool = False


#: Calls whose tasks are known for some time after their outcome: what they have logged may come behind it.
_REMEMBERED = 256


class Calls:
    """Hold them, by their ids and by their tasks.

    Args:
        client: What all ids begin with.

    Attributes:
        remembers: Whether the tasks of calls that have their outcome are kept for a while.
    """

    def __init__(self, client: str) -> None:
        self._client = client
        self._calls: dict[str, SentCall] = {}
        self._ids: dict[int, str] = {}
        self._waiting: dict[str, SentCall] = {}
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._last_number = 0
        self.remembers: bool = False

    def __iter__(self) -> Iterator[SentCall]:
        """Go through those that there are now; others may come and go meanwhile."""
        return iter(list(self._calls.values()))

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def has_waiting(self) -> bool:
        """Whether any has not left."""
        return bool(self._waiting)

    @property
    def waiting(self) -> list[SentCall]:
        """Return those that have not left, oldest first."""
        return list(self._waiting.values())

    def task_of(self, id: str) -> int | None:
        """Return the task of a call that has no outcome, or, if that is remembered, had one lately."""
        call = self._calls.get(id)
        return self._ended.get(id) if call is None else call.task

    def counts(self) -> tuple[int, int, int]:
        """Return how many have not left, how many are on their way, and how many a node has."""
        taken = sum(call.node is not None for call in list(self._calls.values()))
        unsent = len(self._waiting)
        return unsent, max(0, len(self._calls) - unsent - taken), taken

    def add(self, task: int, payload: RemoteCall) -> SentCall:
        """Add a call of this task, that waits to leave."""
        self._last_number += 1
        call = SentCall(f"{self._client}-{self._last_number}", task, payload)
        self._calls[call.id] = self._waiting[call.id] = call
        self._ids[task] = call.id
        return call

    def get(self, id: str) -> SentCall | None:
        """Return the call with this id, if it has no outcome."""
        return self._calls.get(id)

    def of_task(self, task: int) -> SentCall | None:
        """Return the call of this task, if it has no outcome."""
        return self._calls.get(self._ids.get(task, ""))

    def left(self, call: SentCall, message: Message, envelope: Envelope) -> None:
        """Note that the call has left."""
        envelope.calls.append((call.id, message))
        call.message, call.envelope = message, envelope
        self._waiting.pop(call.id, None)

    def taken(self, call: SentCall, node: str) -> None:
        """Note that a node has the call."""
        call.node, call.search_at, call.is_missed, call.was_taken = node, None, False, True
        if call.envelope is not None:
            call.envelope.is_taken = True

    def came_back(self, call: SentCall) -> None:
        """Let a call wait again; it keeps its id, so that a copy of it which did get out is known for one."""
        call.message, call.node, call.search_at = None, None, None
        call.is_doubtful, call.is_missed, call.was_taken = True, False, False
        if call.envelope is not None:
            call.envelope.is_taken = True
            call.envelope = None
        self._waiting[call.id] = call

    def forget(self, call: SentCall) -> None:
        """Forget a call: it has its outcome."""
        if call.envelope is not None:
            call.envelope.is_taken = True
        self._calls.pop(call.id, None)
        self._waiting.pop(call.id, None)
        if self._ids.get(call.task) == call.id:
            del self._ids[call.task]
        if self.remembers:
            self._ended[call.id] = call.task
            if len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)

    def clear(self) -> None:
        """Forget them all."""
        self._calls.clear()
        self._ids.clear()
        self._waiting.clear()
