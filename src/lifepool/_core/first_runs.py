"""The first tasks of a function: let in without knowing how long they take, and looked at again as more is known.

How long a function takes is not known before it has run. Of a burst of its first tasks the door can't say who would
be late, and refuses nobody for that. So those that wait behind a few others and have a timeout are *provisional*: while
they wait, it is looked a few times whether they can still be in time, and who can't is refused then, rather than kept
until its timeout passes.

A worker's first task tells nothing: it may load a model that the next ones have. What counts are the runs after that,
those that have ended and those that go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import policy
from lifepool._core.timers import Timer
from lifepool.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool._core.admission import Door
    from lifepool._core.decision import Desk
    from lifepool._core.fleet import Fleet
    from lifepool._core.queue import TaskQueue
    from lifepool._core.task import Task

_LOOK = (Timer.FIRSTS, 0)


class FirstTasks:
    """Knows which waiting tasks are provisional, and who of them has no hope.

    Args:
        desk: Shared with the scheduler.
        tasks: All tasks without an outcome, by number; the scheduler's.
        queue: Who waits.
        fleet: The workers there are.
        door: Knows how cautious to be.

    Attributes:
        waiting: Provisional tasks by the name of their function. Some may not wait any more.
    """

    def __init__(self, desk: Desk, tasks: dict[int, Task], queue: TaskQueue, fleet: Fleet, door: Door) -> None:
        self._desk = desk
        self._tasks = tasks
        self._queue = queue
        self._fleet = fleet
        self._door = door
        self.waiting: dict[str, set[int]] = {}
        self._runs: dict[str, tuple[int, float]] = {}  # of these names: how many have ended, and their seconds
        self._interval = 0.0

    def note(self, task: Task, timeout: float) -> None:
        """Note that the task joins the queue, and that nothing is known of its function."""
        if len(self._queue.entries) < policy.FIRST_FEW * self._door.capacity:
            return
        interval = max(policy.LEAST_LOOK_S, timeout * policy.LOOK_SHARE)
        if not self.waiting or interval < self._interval:
            self._interval = interval
            self._desk.timers.set(_LOOK, self._desk.now + interval)
        self.waiting.setdefault(task.name, set()).add(task.id)

    def learn(self, name: str, seconds: float) -> None:
        """Note how long a task of this name has run; it was not its worker's first."""
        if name in self.waiting:
            count, total = self._runs.get(name, (0, 0.0))
            self._runs[name] = count + 1, total + seconds

    def hopeless(self) -> Iterator[tuple[Task, QueueFull]]:
        """Yield who is to be refused now, and how; the caller takes them out of the queue meanwhile."""
        for name in list(self.waiting):
            self.waiting[name].intersection_update(self._queue.entries)
            if not self.waiting[name]:
                del self.waiting[name]
                self._runs.pop(name, None)
        if not self.waiting:
            return
        self._desk.timers.set(_LOOK, self._desk.now + self._interval)
        run_s = {name: self._estimate(name) for name in self.waiting}
        if any(run_s.values()):
            yield from self._judge(run_s)

    def _judge(self, run_s: dict[str, float]) -> Iterator[tuple[Task, QueueFull]]:
        now, caution, capacity = self._desk.now, self._door.caution, self._door.capacity
        work = 0.0
        for number, entry in list(self._queue.entries.items()):  # in the order in which they came
            task, name = self._tasks[number], entry.name
            takes = run_s.get(name) or self._door.expected_run_s(name)
            if run_s.get(name) and number in self.waiting[name] and task.timeout is not None:
                missing = caution * (work / capacity + takes) - (task.submitted + task.timeout - now)
                if missing > 0:
                    reason = f"tasks of this function turned out to take {takes:.3g} s: it would pass its timeout"
                    yield task, QueueFull(reason, retry_after=max(policy.LEAST_RETRY_S, missing))
                    continue
            work += takes

    def _estimate(self, name: str) -> float:
        """Return the seconds that a task of this name takes, or more; 0 if nothing is known yet."""
        count, total = self._runs.get(name, (0, 0.0))
        if count or self._desk.limits.slots > 1:  # of several at a time it is not known since when each runs
            return total / max(1, count)
        now = self._desk.now
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
