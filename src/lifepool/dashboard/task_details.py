"""Details of recent tasks: when each was submitted, sent, run and settled. A sample, of bounded size."""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool.dashboard.formatting import shown_name

if TYPE_CHECKING:
    from lifepool.hooks import TaskRecord

#: Tasks kept; the oldest go first.
MAX_TASKS = 3_000
#: The name of a hook's note with the arguments of a call.
ARGUMENTS = "lifepool.dashboard.arguments"


@dataclass(frozen=True, slots=True, eq=False)
class TaskDetails:
    """What is kept of one task. Instants are monotonic seconds.

    Attributes:
        tick: The second in which it was kept, counted from 1.
    """

    tick: int
    id: int
    name: str
    outcome: str | None
    submitted: float
    sent: float | None
    wait_s: float | None
    run_s: float | None
    finished: float | None
    worker: int | None
    attempts: int
    timeout: float | None
    priority: int
    fair_key: str | None
    bytes_sent: int
    bytes_received: int
    error: str | None
    failure: int | None
    arguments: str | None

    def as_dict(self) -> dict[str, object]:
        """Return the details as plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "tick"}


def details_of(task: TaskRecord, tick: int, *, private: bool, failure: int | None = None) -> TaskDetails:
    """Copy what is to be kept of a task from the pool's record.

    Args:
        task: The pool's record of it.
        tick: The second it is.
        private: Leave out what may tell of a person: arguments and ``fair_key``.
        failure: The number of its failure.
    """
    return TaskDetails(
        tick=tick,
        id=task.id,
        name=shown_name(task.name),
        outcome=task.outcome,
        submitted=task.submitted,
        sent=task.sent,
        wait_s=task.wait_s,
        run_s=task.run_s,
        finished=task.finished,
        worker=task.worker,
        attempts=task.attempts,
        timeout=finite(task.timeout),
        priority=task.priority,
        fair_key=None if private or task.fair_key is None else shown_name(task.fair_key),
        bytes_sent=task.bytes_sent,
        bytes_received=task.bytes_received,
        error=None if task.error is None else shown_name(type(task.error).__name__),
        failure=failure,
        arguments=None if private else task.notes.get(ARGUMENTS),
    )


def under_way(task: TaskRecord) -> dict[str, object]:
    """Return a task without an outcome as a row of a table."""
    return {
        "id": task.id,
        "name": shown_name(task.name),
        "submitted": task.submitted,
        "timeout": finite(task.timeout),
        "worker": None if task.sent is None else task.worker,
        "attempts": task.attempts,
    }


def finite(timeout: float | None) -> float | None:
    """Return a timeout in seconds, None for no limit: JSON has no infinity."""
    return timeout if timeout is not None and math.isfinite(timeout) else None


class RecentTasks:
    """The tasks that are kept, found by number."""

    def __init__(self) -> None:
        self._by_id: dict[int, TaskDetails] = {}
        self._recent: deque[TaskDetails] = deque()

    def __len__(self) -> int:
        return len(self._recent)

    def clear(self) -> None:
        """Drop all: the pool numbers its tasks anew."""
        self._by_id.clear()
        self._recent.clear()

    def add(self, details: TaskDetails) -> None:
        """Keep a task; the oldest makes room."""
        if len(self._recent) >= MAX_TASKS:
            self._by_id.pop(self._recent.popleft().id, None)
        self._recent.append(details)
        self._by_id[details.id] = details

    def find(self, task: int) -> TaskDetails | None:
        """Return the details of a task, or None if they were not kept."""
        return self._by_id.get(task)

    def between(self, after: int, until: int, most: int) -> list[list[object]]:
        """Return the tasks kept after one second and until another as short rows, thinned out evenly.

        Returns:
            Number, worker, name, when the function began, seconds that it ran, and outcome of each.
        """
        newer = itertools.takewhile(lambda details: details.tick > after, reversed(self._recent))
        found = [details for details in newer if details.tick <= until and details.worker is not None]
        return [_row(details) for details in found[:: -(-len(found) // most) or 1]][::-1]


def _row(details: TaskDetails) -> list[object]:
    began = details.submitted + (details.wait_s or 0.0)
    ran = details.run_s if details.run_s is not None else (details.finished or began) - began
    return [details.id, details.worker, details.name, began, max(0.0, ran), details.outcome]
