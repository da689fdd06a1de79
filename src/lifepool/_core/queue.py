"""The queue of waiting tasks: priorities without starvation, fairness between keys, FIFO otherwise, O(1) removal.

Theory of operation. A task's *rank* is the instant it was submitted minus ``priority * HEAD_START_S``: a priority is a
head start, not a right of way. A task that waits long enough therefore goes first, without any ageing job. Within one
priority (a *lane*), tasks of the same ``fair_key`` are FIFO and the keys take turns, so that a tenant with a thousand
tasks waits behind its own, and another tenant's single task is among the next.

Removing (cancel, timeout) marks the entry dead in O(1). Dead entries are passed over, and a lane is swept once they
outnumber the living, so memory stays proportional to what really waits.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

_Key = TypeVar("_Key")

#: Seconds of waiting that one step of priority is worth. Long against a web request, short against starving.
HEAD_START_S: Final = 1.0

_SLACK: Final = 64  # dead entries tolerated before a sweep is thought of


class _Entry:
    """One stay of a task in the queue; a task that comes back gets a new entry."""

    __slots__ = ("alive", "fair_key", "name", "priority", "submitted", "task")

    def __init__(self, task: int, name: str, priority: float, fair_key: Hashable, submitted: float) -> None:
        self.task = task
        self.name = name
        self.priority = priority
        self.fair_key = fair_key
        self.submitted = submitted
        self.alive = True


class _Lane:
    """The waiting tasks of one priority: a FIFO for each fair key, the keys in the order of their next turn."""

    __slots__ = ("living", "size", "turns")

    def __init__(self) -> None:
        self.turns: OrderedDict[Hashable, deque[_Entry]] = OrderedDict()
        self.size = 0  # entries in all FIFOs, dead ones included
        self.living = 0

    def append(self, entry: _Entry, *, front: bool) -> None:
        """Add an entry to the FIFO of its key; with ``front`` as the next of the whole lane."""
        fifo = self.turns.get(entry.fair_key)
        if fifo is not None and not self._drop_dead(fifo):
            del self.turns[entry.fair_key]  # only dead entries kept the key's turn: it takes turns anew, from the end
            fifo = None
        if fifo is None:
            fifo = self.turns[entry.fair_key] = deque()
        if front:
            fifo.appendleft(entry)
            self.turns.move_to_end(entry.fair_key, last=False)
        else:
            fifo.append(entry)
        self.size += 1
        self.living += 1

    def head(self) -> _Entry:
        """Return the living entry whose turn it is, dropping dead ones on the way; the lane has one."""
        while True:
            key, fifo = next(iter(self.turns.items()))
            if (fifo and fifo[0].alive) or self._drop_dead(fifo):
                return fifo[0]
            del self.turns[key]

    def _drop_dead(self, fifo: deque[_Entry]) -> bool:
        """Drop the dead entries at the head of a FIFO, and return whether a living one is there then."""
        while fifo and not fifo[0].alive:
            fifo.popleft()
            self.size -= 1
        return bool(fifo)

    def take(self) -> None:
        """Remove the head (``head`` was just called) and let the next key have its turn."""
        key, fifo = next(iter(self.turns.items()))
        fifo.popleft()
        self.size -= 1
        self.living -= 1
        if not fifo:
            del self.turns[key]
        elif len(self.turns) > 1:
            self.turns.move_to_end(key)

    def count_dead(self) -> None:
        """Count one more dead entry; remove all of them from the FIFOs when most are dead."""
        self.living -= 1
        if self.size <= 2 * self.living + _SLACK:
            return
        for key, fifo in list(self.turns.items()):
            self.turns[key] = deque(entry for entry in fifo if entry.alive)
            if not self.turns[key]:
                del self.turns[key]
        self.size = self.living


class TaskQueue:
    """The numbers of the tasks that wait. Admission sees to it that the queue does not grow without bound.

    Attributes:
        entries: The tasks that wait, by number. Read directly for whether it is empty: ``len(queue)`` costs a call.
        waiting_by_name: How many tasks of each name wait; for admission's prediction.
    """

    def __init__(self) -> None:
        self.entries: dict[int, _Entry] = {}
        self._lanes: dict[float, _Lane] = {}
        self._waiting_by_key: Counter[Hashable] = Counter()
        self.waiting_by_name: Counter[str] = Counter()
        # The task that ``peek`` found, until another may be next: nearly every pop follows a peek.
        self._next: tuple[_Lane, _Entry] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, task: int) -> bool:
        return task in self.entries

    @property
    def entries_stored(self) -> int:
        """Return how many entries are in memory, dead ones included (for tests of the memory bound)."""
        return sum(lane.size for lane in self._lanes.values())

    @property
    def keys_waiting(self) -> int:
        """Return how many different fair keys have waiting tasks."""
        return len(self._waiting_by_key)

    def numbers(self) -> list[int]:
        """Return all waiting tasks, in no particular order."""
        return list(self.entries)

    def waiting_of(self, fair_key: Hashable) -> int:
        """Return how many tasks of this key wait."""
        return self._waiting_by_key.get(fair_key, 0)

    def push(
        self,
        task: int,
        *,
        priority: float,
        fair_key: Hashable,
        submitted: float,
        name: str = "",
        front: bool = False,
    ) -> None:
        """Add a task; with ``front`` before its peers, for one that comes back from a worker."""
        entry = self.entries[task] = _Entry(task, name, priority, fair_key, submitted)
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = _Lane()
            self._next = None
        if front:
            self._next = None
        lane.append(entry, front=front)
        self.waiting_by_name[name] += 1
        if fair_key is not None:
            self._waiting_by_key[fair_key] += 1

    def peek(self) -> int | None:
        """Return the task that ``pop`` would take, or None."""
        if not self.entries:
            return None
        return (self._next or self._find_next())[1].task

    def next_since(self) -> float | None:
        """Return the instant at which the task that ``pop`` would take was submitted, or None."""
        if not self.entries:
            return None
        return (self._next or self._find_next())[1].submitted

    def pop(self) -> int | None:
        """Remove and return the task with the best rank; return None if none waits."""
        if not self.entries:
            return None
        lane, entry = self._next or self._find_next()
        self._next = None
        lane.take()
        self._forget(entry, lane)
        return entry.task

    def remove(self, task: int) -> bool:
        """Remove this task wherever it stands; return False if it does not wait."""
        entry = self.entries.get(task)
        if entry is None:
            return False
        lane = self._lanes[entry.priority]
        self._next = None
        entry.alive = False
        lane.count_dead()
        self._forget(entry, lane)
        return True

    def _find_next(self) -> tuple[_Lane, _Entry]:
        """Return the lane whose head has the best rank, and that head; at least one task waits."""
        lanes = self._lanes.values()
        lane = next(iter(lanes)) if len(lanes) == 1 else min(lanes, key=_rank)
        self._next = found = (lane, lane.head())
        return found

    def _forget(self, entry: _Entry, lane: _Lane) -> None:
        del self.entries[entry.task]
        if not lane.living:
            del self._lanes[entry.priority]
        _one_less(self.waiting_by_name, entry.name)
        if entry.fair_key is not None:
            _one_less(self._waiting_by_key, entry.fair_key)


def _one_less(counts: Counter[_Key], key: _Key) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1


def _rank(lane: _Lane) -> float:
    head = lane.head()
    return head.submitted - head.priority * HEAD_START_S
