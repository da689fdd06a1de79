"""Tasks by the name of their function: how many, how long, how slow the slowest. Of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.dashboard.formatting import shown_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.dashboard.task_details import TaskDetails
    from lifepool.hooks import TaskRecord

#: Names kept. Past this, the half that took the least time in all is counted together.
MAX_NAMES = 200
#: Names shown.
SHOWN = 40
OTHERS = "(others)"


class Entry:
    """The counts of one name. Times are in seconds."""

    __slots__ = ("count", "failures", "name", "ran", "run_max", "run_sum", "slowest", "wait_sum")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.count: int = 0
        self.failures: int = 0
        self.ran: int = 0  # those of which a worker said how long they ran
        self.run_sum: float = 0.0
        self.run_max: float = 0.0
        self.wait_sum: float = 0.0
        self.slowest: TaskDetails | None = None  # kept as long as the name is: it is what one wants to look at

    def absorb(self, other: Entry) -> None:
        """Add the tasks of another entry."""
        self.count += other.count
        self.failures += other.failures
        self.ran += other.ran
        self.run_sum += other.run_sum
        self.wait_sum += other.wait_sum
        if other.run_max > self.run_max:
            self.run_max, self.slowest = other.run_max, other.slowest

    def as_dict(self) -> dict[str, object]:
        """Return the entry as plain values for JSON."""
        return {
            "name": shown_name(self.name),
            "count": self.count,
            "failures": self.failures,
            "run_sum": self.run_sum,
            "run_mean": self.run_sum / self.ran if self.ran else None,
            "run_max": self.run_max if self.ran else None,
            "wait_mean": self.wait_sum / self.count if self.count else None,
            "slowest": None if self.slowest is None else self.slowest.id,
        }


class Names:
    """The table of entries, by name."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._others = Entry(OTHERS)

    def __len__(self) -> int:
        return len(self._entries)

    def settled(self, tasks: Sequence[TaskRecord]) -> list[TaskRecord]:
        """Count tasks; return those that are the slowest of their name so far. This runs for every task."""
        slowest: list[TaskRecord] = []
        entries = self._entries
        for task in tasks:
            entry = entries.get(task.name)
            if entry is None:
                entry = self._new(task.name)
            entry.count += 1
            entry.wait_sum += task.wait_s or 0.0
            run = task.run_s
            if run is not None:
                entry.ran += 1
                entry.run_sum += run
                if run > entry.run_max:
                    entry.run_max = run
                    slowest.append(task)
        return slowest

    def remember(self, name: str, details: TaskDetails) -> None:
        """Keep the details of a task that is the slowest of its name so far."""
        entry = self._entries.get(name)
        if entry is not None:  # else it has just made room for others
            entry.slowest = details

    def find(self, task: int) -> TaskDetails | None:
        """Return the details of a task that is the slowest of its name, or None."""
        entries = [self._others, *self._entries.values()]
        return next((each.slowest for each in entries if each.slowest is not None and each.slowest.id == task), None)

    def forget_details(self) -> None:
        """Drop all details: the pool numbers its tasks anew."""
        for entry in self._entries.values():
            entry.slowest = None
        self._others.slowest = None

    def failed(self, name: str) -> None:
        """Count a failure of this name; the task itself was counted already."""
        entry = self._entries.get(name)
        if entry is not None:
            entry.failures += 1

    def slowest(self) -> list[dict[str, object]]:
        """Return the entries as plain values, those that took the most time in all first."""
        ranked = self._ranked()
        rest = Entry(OTHERS)
        rest.absorb(self._others)
        for entry in ranked[SHOWN:]:
            rest.absorb(entry)
        return [entry.as_dict() for entry in [*ranked[:SHOWN], *([rest] if rest.count else [])]]

    def _ranked(self) -> list[Entry]:
        return sorted(self._entries.values(), key=lambda entry: entry.run_sum, reverse=True)

    def _new(self, name: str) -> Entry:
        if len(self._entries) >= MAX_NAMES:
            for entry in self._ranked()[MAX_NAMES // 2 :]:
                self._others.absorb(self._entries.pop(entry.name))
        entry = self._entries[name] = Entry(name)
        return entry
