"""Recent failures, alike ones counted together: a bad release is one line with a count. Of bounded size."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lifepool.dashboard.formatting import message_of, shown_name, traceback_of

if TYPE_CHECKING:
    from lifepool.hooks import TaskRecord

#: Kinds of failure kept; the one that has not happened for longest goes first.
MAX_KINDS = 50
#: Texts taken in a second, and as many again of kinds that have none: a flood of one is not to hide the others.
#: Building one costs some ten microseconds, and tasks may fail by the thousand.
TEXTS_PER_SECOND = 20


@dataclass(slots=True, eq=False)
class Failure:
    """Failures of one function, with one outcome and one class of error.

    Attributes:
        number: Unique, for asking for its traceback.
        message: What the last one said whose text was taken.
        traceback: The worker's, of the same.
        tasks: The last tasks that failed so.
        first: When it happened first; monotonic seconds, as all instants here.
        last: When it happened last.
    """

    number: int
    name: str
    outcome: str
    error: str
    first: float
    last: float = 0.0
    count: int = 0
    message: str = ""
    traceback: str | None = None
    worker: int | None = None
    tasks: deque[int] = field(default_factory=lambda: deque(maxlen=5))


class Failures:
    """The table of recent failures.

    Args:
        texts: Whether messages and tracebacks are kept.
    """

    def __init__(self, *, texts: bool = True) -> None:
        self._texts = texts
        self._kinds: OrderedDict[tuple[str, str, str], Failure] = OrderedDict()
        self._last_number = 0
        self.refill()

    def __len__(self) -> int:
        return len(self._kinds)

    def refill(self) -> None:
        """Allow some more texts to be taken. Called once a second."""
        self._quota = self._first_quota = TEXTS_PER_SECOND

    def add(self, task: TaskRecord, outcome: str, error: BaseException | None, now: float) -> Failure:
        """Count a failure, and take its text if there is room for more in this second."""
        error_name = type(error).__name__ if error is not None else outcome
        key = (shown_name(task.name), outcome, shown_name(error_name))
        found = self._kinds.get(key)
        if found is None:
            found = self._new(key, now)
        else:
            self._kinds.move_to_end(key)
        found.count += 1
        found.last = now
        found.worker = task.worker
        if task.id:
            found.tasks.append(task.id)
        if self._texts and error is not None and self._may_take(found):
            found.message, found.traceback = message_of(error), traceback_of(error)
        return found

    def _may_take(self, failure: Failure) -> bool:
        if not failure.message and self._first_quota > 0:
            self._first_quota -= 1
            return True
        self._quota -= 1
        return self._quota >= 0

    def _new(self, key: tuple[str, str, str], now: float) -> Failure:
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.popitem(last=False)
        self._last_number += 1
        self._kinds[key] = found = Failure(self._last_number, *key, first=now)
        return found

    def recent(self) -> list[dict[str, object]]:
        """Return the failures as plain values, the latest first, without tracebacks."""
        return [
            {
                "number": each.number,
                "name": each.name,
                "outcome": each.outcome,
                "error": each.error,
                "message": each.message,
                "count": each.count,
                "first": each.first,
                "last": each.last,
                "worker": each.worker,
                "tasks": list(each.tasks),
                "has_traceback": each.traceback is not None,
            }
            for each in reversed(self._kinds.values())
        ]

    def traceback(self, number: int) -> str | None:
        """Return the traceback of the failure with this number, or None."""
        return next((each.traceback for each in self._kinds.values() if each.number == number), None)
