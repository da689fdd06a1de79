"""The waiting room: priorities without starvation, fairness between keys, FIFO otherwise, O(1) removal.

Theory of operation. A task's *rank* is the instant it was submitted minus ``priority * HEAD_START_S``: a priority is a
head start, not a right of way. Whoever waits long enough therefore goes first, without any ageing job. Within one
priority (a *lane*), tasks of the same ``fair_key`` are FIFO and the keys take turns, so that a tenant with a thousand
tasks waits behind its own, and another tenant's single task is among the next.

Removing (cancel, timeout) marks the entry dead in O(1). Dead entries are passed over, and a lane is swept once they
outnumber the living, so memory stays proportional to what really waits.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

#: Seconds of waiting that one step of priority is worth. Long against a web request, short against starving.
HEAD_START_S = 1.0

_SLACK = 64  # dead entries tolerated before a sweep is thought of


class _Entry:
    """One stay of a task in the room; a task that comes back gets a new entry."""

    __slots__ = ("alive", "fair_key", "name", "priority", "submitted", "task")

    def __init__(self, task: int, name: str, priority: int, fair_key: str | None, submitted: float) -> None:
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
        self.turns: OrderedDict[str | None, deque[_Entry]] = OrderedDict()
        self.size = 0  # entries in all FIFOs, dead ones included
        self.living = 0

    def append(self, entry: _Entry, *, front: bool) -> None:
        fifo = self.turns.get(entry.fair_key)
        if fifo is not None and not self._shed(fifo):
            del self.turns[entry.fair_key]  # nobody living kept its turn: who comes now stands at the end
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
        """The living entry whose turn it is; the lane has one. Sheds dead ones on the way."""
        while True:
            key, fifo = next(iter(self.turns.items()))
            if (fifo and fifo[0].alive) or self._shed(fifo):
                return fifo[0]
            del self.turns[key]

    def _shed(self, fifo: deque[_Entry]) -> bool:
        """Drop the dead ones at its head; whether a living one is there then."""
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

    def bury(self) -> None:
        """One more entry is dead; sweep when most are."""
        self.living -= 1
        if self.size <= 2 * self.living + _SLACK:
            return
        for key, fifo in list(self.turns.items()):
            self.turns[key] = deque(entry for entry in fifo if entry.alive)
            if not self.turns[key]:
                del self.turns[key]
        self.size = self.living


class TaskQueue:
    """The numbers of the tasks that wait. The bound on its length is the scheduler's business.

    Attributes:
        waiting_by_name: How many tasks of each name wait; for the door's prediction.
    """

    def __init__(self) -> None:
        #: Who waits, by number. Read by the scheduler for its truth: ``len(queue)`` costs a call.
        self.entries: dict[int, _Entry] = {}
        self._lanes: dict[int, _Lane] = {}
        self._waiting_by_key: Counter[str] = Counter()
        self.waiting_by_name: Counter[str] = Counter()
        # What the last look found, while it is still true: nearly every pop follows a peek.
        self._seen: tuple[_Lane, _Entry] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, task: int) -> bool:
        return task in self.entries

    @property
    def entries_held(self) -> int:
        """Entries in memory, dead ones included (for tests of the memory bound)."""
        return sum(lane.size for lane in self._lanes.values())

    @property
    def keys_waiting(self) -> int:
        """How many different fair keys have waiting tasks."""
        return len(self._waiting_by_key)

    def numbers(self) -> list[int]:
        """All waiting tasks, in no particular order."""
        return list(self.entries)

    def waiting_of(self, fair_key: str) -> int:
        """How many tasks of this key wait."""
        return self._waiting_by_key.get(fair_key, 0)

    def push(
        self, task: int, *, priority: int, fair_key: str | None, submitted: float, name: str = "", front: bool = False
    ) -> None:
        """Add a task; ``front`` puts one that comes back from a worker before its peers."""
        entry = self.entries[task] = _Entry(task, name, priority, fair_key, submitted)
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = _Lane()
            self._seen = None
        if front:
            self._seen = None
        lane.append(entry, front=front)
        self.waiting_by_name[name] += 1
        if fair_key is not None:
            self._waiting_by_key[fair_key] += 1

    def peek(self) -> int | None:
        """The task that ``pop`` would take, or None."""
        if not self.entries:
            return None
        return (self._seen or self._look())[1].task

    def pop(self) -> int | None:
        """Take the task with the best rank, or None if nobody waits."""
        if not self.entries:
            return None
        lane, entry = self._seen or self._look()
        self._seen = None
        lane.take()
        self._forget(entry, lane)
        return entry.task

    def remove(self, task: int) -> bool:
        """Take this task out wherever it stands; False if it does not wait."""
        entry = self.entries.get(task)
        if entry is None:
            return False
        lane = self._lanes[entry.priority]
        self._seen = None
        entry.alive = False
        lane.bury()
        self._forget(entry, lane)
        return True

    def _look(self) -> tuple[_Lane, _Entry]:
        """The lane whose head has the best rank, and that head; somebody waits."""
        lanes = self._lanes.values()
        lane = next(iter(lanes)) if len(lanes) == 1 else min(lanes, key=_rank)
        self._seen = seen = (lane, lane.head())
        return seen

    def _forget(self, entry: _Entry, lane: _Lane) -> None:
        del self.entries[entry.task]
        if not lane.living:
            del self._lanes[entry.priority]
        _one_less(self.waiting_by_name, entry.name)
        if entry.fair_key is not None:
            _one_less(self._waiting_by_key, entry.fair_key)


def _one_less(counts: Counter[str], key: str) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1


def _rank(lane: _Lane) -> float:
    head = lane.head()
    return head.submitted - head.priority * HEAD_START_S
