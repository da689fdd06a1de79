"""The first tasks of a function: admitted without knowing how long they take, and reviewed as more is known.

How long a function takes is not known before it has run. So admission can't say which of a burst of its first tasks
would be late, and refuses none of them for that. Those that have a timeout and wait behind a few others are
*provisional*: while they wait they are reviewed a few times, and a task that can't be in time any more is refused then,
rather than kept until its timeout passes.

A worker's first task says nothing: it may load a model that the next ones have. What counts are the runs after that,
those that have ended and those that go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import policy
from lifepool._core.timers import Timer
from lifepool.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool._core.admission import Admission
    from lifepool._core.decision import DecisionContext
    from lifepool._core.fleet import Fleet
    from lifepool._core.task import Task
    from lifepool._core.task_table import TaskTable

_REVIEW = (Timer.REVIEW, 0)


class ProvisionalTasks:
    """Know which waiting tasks are provisional, and refuse those that can't be in time any more.

    Args:
        decision: Shared by all parts of the scheduler.
        table: All tasks without an outcome, and who of them waits.
        fleet: The workers there are.
        admission: Predicts how long tasks wait.

    Attributes:
        waiting: Provisional tasks by the name of their function. Some may not wait any more.
    """

    def __init__(self, decision: DecisionContext, table: TaskTable, fleet: Fleet, admission: Admission) -> None:
        self._decision = decision
        self._tasks = table.tasks
        self._queue = table.queue
        self._fleet = fleet
        self._admission = admission
        self.waiting: dict[str, set[int]] = {}
        self._runs: dict[str, tuple[int, float]] = {}  # of these names: how many have ended, and their seconds
        self._interval = 0.0

    def note(self, task: Task, timeout: float) -> None:
        """Note that a task of a function of which nothing is known joins the queue."""
        if len(self._queue.entries) < policy.FIRST_FEW * self._admission.capacity:
            return
        interval = max(policy.LEAST_REVIEW_S, timeout * policy.REVIEW_SHARE)
        if not self.waiting or interval < self._interval:
            self._interval = interval
            self._decision.timers.set(_REVIEW, self._decision.now + interval)
        self.waiting.setdefault(task.name, set()).add(task.id)

    def learn(self, name: str, seconds: float) -> None:
        """Note how long a task of this name has run; it was not its worker's first."""
        if name in self.waiting:
            count, total = self._runs.get(name, (0, 0.0))
            self._runs[name] = count + 1, total + seconds

    def refusals(self) -> Iterator[tuple[Task, QueueFull]]:
        """Yield the tasks to refuse now, with their errors; the caller takes each out of the queue meanwhile."""
        for name in list(self.waiting):
            self.waiting[name].intersection_update(self._queue.entries)
            if not self.waiting[name]:
                del self.waiting[name]
                self._runs.pop(name, None)
        if not self.waiting:
            return
        self._decision.timers.set(_REVIEW, self._decision.now + self._interval)
        run_s = {name: self._estimate(name) for name in self.waiting}
        if any(run_s.values()):
            yield from self._judge(run_s)

    def _judge(self, run_s: dict[str, float]) -> Iterator[tuple[Task, QueueFull]]:
        now, factor, capacity = self._decision.now, self._admission.safety_factor, self._admission.capacity
        work = 0.0
        for number, entry in list(self._queue.entries.items()):  # in the order in which they came
            task, name = self._tasks[number], entry.name
            takes = run_s.get(name) or self._admission.expected_run_s(name)
            if run_s.get(name) and number in self.waiting[name] and task.timeout is not None:
                missing = factor * (work / capacity + takes) - (task.submitted + task.timeout - now)
                if missing > 0:
                    reason = f"tasks of this function turned out to take {takes:.3g} s: it would pass its timeout"
                    yield task, QueueFull(reason, retry_after=max(policy.LEAST_RETRY_S, missing))
                    continue
            work += takes

    def _estimate(self, name: str) -> float:
        """Return the seconds that a task of this name takes, or more; 0 if nothing is known yet."""
        count, total = self._runs.get(name, (0, 0.0))
        if count or self._decision.limits.slots > 1:  # of several at a time it is not known since when each runs
            return total / max(1, count)
        now = self._decision.now
        running = (
            now - worker.head_since
            for worker in self._fleet
            if worker.completed
            and worker.tasks
            and worker.loading is None
            and (task := self._tasks.get(worker.tasks[0])) is not None
            and task.name == name
        )
        return max(running, default=0.0)
