"""All tasks without an outcome: where each waits, and the one way in which each is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import policy, states
from lifepool._core.queue import TaskQueue
from lifepool._core.states import TaskState
from lifepool._core.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.decision import DecisionContext
    from lifepool._core.task import Task
    from lifepool.errors import PoolError


class TaskTable:
    """Hold every task from its submission until it is settled, and move those that no worker has.

    Args:
        decision: Shared by all parts of the scheduler.
        random: Returns a number in [0, 1), for jitter.

    Attributes:
        tasks: All tasks without an outcome, by number. Each is in exactly one of: ``queue``, ``preparing``, a RETRY
            timer, the list of one worker.
        queue: The tasks that wait for a worker.
        preparing: The tasks whose payloads are not ready. Each has its position in the queue reserved.
    """

    def __init__(self, decision: DecisionContext, random: Callable[[], float]) -> None:
        self.tasks: dict[int, Task] = {}
        self.queue: TaskQueue = TaskQueue()
        self.preparing: set[int] = set()
        self._decision = decision
        self._random = random

    def enqueue(self, task: Task, *, front: bool = False) -> None:
        """Let a task wait for a worker; with ``front`` before its peers."""
        self.queue.push(
            task.id,
            name=task.name,
            priority=task.priority,
            fair_key=task.fair_key,
            submitted=task.submitted,
            front=front,
        )

    def requeue(self, numbers: tuple[int, ...]) -> None:
        """Let tasks that came back unstarted wait again: before their peers, in their old order."""
        for number in reversed(numbers):
            task = self.tasks.get(number)
            if task is not None:
                task.move(TaskState.QUEUED)
                task.worker = task.taken = None
                self.enqueue(task, front=True)

    def retry(self, task: Task) -> None:
        """Let a task that was tried in vain wait for its next try."""
        decision = self._decision
        task.retries -= 1
        task.attempts += 1
        task.move(TaskState.QUEUED)
        task.worker = task.taken = None
        decision.tally.retried += 1
        delay = policy.retry_delay(task.attempts, self._random())
        decision.timers.set((Timer.RETRY, task.id), decision.now + delay)

    def release(self, task: Task) -> None:
        """Forget a task that another scheduler takes over. If a worker has it, the caller sees to that."""
        del self.tasks[task.id]
        if task.worker is None and not self.queue.remove(task.id):
            self._decision.timers.cancel((Timer.RETRY, task.id))
        if task.timeout is not None:
            self._decision.timers.cancel((Timer.TASK_DEADLINE, task.id))

    def settle(self, task: Task, outcome: TaskState, error: PoolError | None = None) -> None:
        """Give a task its outcome, once, and forget it. A worker that has it is not touched.

        Args:
            task: The task.
            outcome: What became of it.
            error: What its caller gets, unless the engine has the answer.
        """
        decision = self._decision
        waits = task.state is states.TASK_QUEUED
        task.move(outcome)
        del self.tasks[task.id]
        if waits and not self.queue.remove(task.id):
            self.preparing.discard(task.id)
            decision.timers.cancel((Timer.RETRY, task.id))
        if task.timeout is not None:
            decision.timers.cancel((Timer.TASK_DEADLINE, task.id))
        decision.tally.outcomes[outcome] += 1
        decision.out.append(settle := do.Settle(task.id, outcome, error))
        if outcome is not states.TASK_COMPLETED:
            settle.details = task
