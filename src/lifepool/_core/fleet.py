"""The workers as the scheduler sees them: which there are, and which are free.

The fleet decides nothing about tasks and emits no commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import states
from lifepool._core.states import WORKER_TRANSITIONS, ExitReason, WorkerState, moved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool._core.policy import Limits


class Worker:
    """One worker: its state, its tasks, and since when.

    Attributes:
        tasks: Numbers of the tasks it was sent and has not answered, in order. With one slot the first is running and
            the others are pipelined. It may name tasks that were settled meanwhile: they occupy the slot until the
            worker answers.
        head_since: Instant from which the first of ``tasks`` has been running.
        interrupted: The task it was asked to break off, or None.
        exit_reason: Why we stopped or killed it; None if we did not.
        replaced_for: Why it goes as soon as its successor is ready; None if it has no successor.
        counted: Whether it counts towards ``max_workers``. One that is on its way out, or whose successor is being
            started, does not: it makes room.
        suspect: The task that it should have taken long ago, while that is being looked into.
        loading: The task for which it imports modules at the moment, or None.
        unwanted: That task, if it is to be broken off as soon as the import is done.
        slots: Tasks that it runs at the same time.
        widest: The most slots that it ever had: it may still have tasks from then.
    """

    __slots__ = (
        "completed", "counted", "exit_reason", "head_since", "id", "interrupted", "loading", "ready_at", "replaced_for",
        "slots", "started_at", "state", "suspect", "tasks", "unwanted", "widest",
    )  # fmt: skip

    def __init__(self, number: int, now: float, slots: int = 1) -> None:
        self.id: int = number
        self.slots: int = slots
        self.widest: int = slots
        self.state: WorkerState = WorkerState.STARTING
        self.started_at: float = now
        self.tasks: list[int] = []
        self.completed: int = 0
        self.ready_at: float | None = None
        self.head_since: float = 0.0
        self.interrupted: int | None = None
        self.exit_reason: ExitReason | None = None
        self.replaced_for: ExitReason | None = None
        self.counted: bool = True
        self.suspect: int | None = None
        self.loading: int | None = None
        self.unwanted: int | None = None

    def __str__(self) -> str:
        return f"worker {self.id}"

    def move(self, state: WorkerState) -> None:
        """Change the state, if the table allows it."""
        self.state = moved(WORKER_TRANSITIONS, self.state, state, self)


class Fleet:
    """Hold all workers by number.

    Invariants: ``idle`` holds exactly the READY workers, the most recently used last (its caches are warm, and the
    others grow old enough to be let go); ``busy`` holds exactly the BUSY ones, by number.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.workers: dict[int, Worker] = {}
        self.idle: list[Worker] = []
        self.busy: dict[int, Worker] = {}  # of many workers it may be a few: those are looked through for each task
        self._counted = 0
        self.last_number: int = 0  # of the newest worker

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers.values())

    def __len__(self) -> int:
        return len(self.workers)

    def add(self, now: float) -> Worker:
        """Add and return a new worker that is starting."""
        self.last_number += self.limits.numbering
        self._counted += 1
        worker = self.workers[self.last_number] = Worker(self.last_number, now, self.limits.slots)
        return worker

    def remove(self, number: int) -> Worker | None:
        """Forget a worker that is gone, and return it; return None if it was forgotten before."""
        worker = self.workers.pop(number, None)
        if worker is not None:
            self._take_out(worker)
            self.uncount(worker)
            worker.move(WorkerState.DEAD)
        return worker

    def set_ready(self, worker: Worker) -> None:
        """Note that the worker has nothing to do."""
        worker.move(states.WORKER_READY)
        self.busy.pop(worker.id, None)
        self.idle.append(worker)

    def set_busy(self, worker: Worker) -> None:
        """Note that an idle worker gets a task."""
        if self.idle[-1] is worker:  # it nearly always is
            self.idle.pop()
        else:
            self.idle.remove(worker)
        worker.move(states.WORKER_BUSY)
        self.busy[worker.id] = worker

    def set_leaving(self, worker: Worker, state: WorkerState, reason: ExitReason) -> None:
        """Note that the worker takes no more tasks, and why; the first reason stays."""
        self._take_out(worker)
        self.uncount(worker)
        worker.exit_reason = worker.exit_reason or reason
        worker.move(state)

    def _take_out(self, worker: Worker) -> None:
        """Forget that the worker takes tasks."""
        if worker.state is WorkerState.READY:
            self.idle.remove(worker)
        else:
            self.busy.pop(worker.id, None)

    def uncount(self, worker: Worker) -> None:
        """Note that the worker makes room for another one."""
        if worker.counted:
            worker.counted = False
            self._counted -= 1

    def slots(self) -> int:
        """Return how many tasks the workers run at the same time that are up, or about to be; at least one."""
        if self.limits.slots == 1:
            return max(1, self._counted)
        return sum(worker.slots for worker in self if worker.counted) or self.limits.slots

    def counted(self) -> int:
        """Return how many workers count towards ``max_workers``."""
        return self._counted

    def count(self, *states: WorkerState) -> int:
        """Return how many workers are in any of these states."""
        return sum(worker.state in states for worker in self)

    def free_worker(self) -> Worker | None:
        """Return a worker that would start a task at once, or None."""
        if self.idle:
            return self.idle[-1]
        if self.limits.slots > 1:
            for worker in self.busy.values():
                if len(worker.tasks) < worker.slots:
                    return worker
        return None

    def pipeline_worker(self, depth: int, since: float) -> Worker | None:
        """Return the busy worker with the shortest pipeline below ``depth`` that may take one more task, or None.

        Args:
            depth: Tasks that it may have then.
            since: The first of its tasks must not have begun earlier.
        """
        best: Worker | None = None
        for worker in self.busy.values():
            load = len(worker.tasks)
            if (
                load < depth
                and (best is None or load < len(best.tasks))
                and worker.interrupted is None
                and worker.head_since > since
                and not self.retires_after(worker, load)
            ):
                best = worker
                if load == 1:  # no pipeline is shorter
                    break
        return best

    def retires_after(self, worker: Worker, pending: int) -> bool:
        """Return whether the worker has reached its last task once it has done ``pending`` more."""
        limit = self.limits.max_tasks_per_worker
        return limit is not None and worker.completed + pending >= limit
