"""The dispatcher: which waiting task goes to which worker, and what is taken back because it would wait too long there.

Rules
    1. A free worker gets the next task at once.
    2. With none free, a busy worker gets one ahead (*pipelining*) if tasks of that name are short: the more, the
       shorter they are. Its next task is then there already when it answers.
    3. Nobody waits behind a long task while another worker is free: what is pipelined is taken back when the task
       before it overruns, and when a worker becomes free and nobody else waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import policy, states
from lifepool._core.supervisor import CLAIM
from lifepool._core.timers import Timer

if TYPE_CHECKING:
    from lifepool._core.counters import RunTimes
    from lifepool._core.decision import Desk
    from lifepool._core.fleet import Worker
    from lifepool._core.queue import TaskQueue
    from lifepool._core.supervisor import Supervisor
    from lifepool._core.task import Task

_REBALANCE = (Timer.REBALANCE, 0)


class Dispatcher:
    """Matches tasks and workers.

    Args:
        desk: Shared with the scheduler.
        tasks: All tasks without an outcome, by number; the scheduler's.
        queue: Who waits.
        supervisor: Owns the fleet.
        run_times: How long tasks take.
    """

    def __init__(
        self, desk: Desk, tasks: dict[int, Task], queue: TaskQueue, supervisor: Supervisor, run_times: RunTimes
    ) -> None:
        self._desk = desk
        self._limits = desk.limits
        self._tasks = tasks
        self._queue = queue
        self._supervisor = supervisor
        self._fleet = supervisor.fleet
        self._run_times = run_times
        self._scales = self._limits.min_workers < self._limits.max_workers

    def place(self, task: Task) -> bool:
        """Give a task that nobody waits before to a worker; False if there is no place for it."""
        worker = self._fleet.free_worker() or self._pipeline_worker(task)
        if worker is None:
            return False
        self._send(task, worker)
        return True

    def dispatch(self) -> None:
        """Place all that can be placed, best rank first."""
        queue, tasks = self._queue, self._tasks
        while (number := queue.peek()) is not None:
            task = tasks[number]
            worker = self._fleet.free_worker() or self._pipeline_worker(task)
            if worker is None:
                break
            queue.pop()
            self._send(task, worker)

    def _pipeline_worker(self, task: Task) -> Worker | None:
        if self._limits.slots > 1:
            return None
        depth = self._depth(task)
        return self._fleet.pipeline_worker(depth, self._desk.now) if depth > 1 else None

    def _depth(self, task: Task) -> int:
        """How many tasks a worker may hold, this one included."""
        if not self._limits.can_retract:
            return 1
        return policy.pipeline_depth(self._run_times.estimate(task.name))

    def _send(self, task: Task, worker: Worker) -> None:
        desk = self._desk
        if worker.state is states.WORKER_READY:
            self._fleet.set_busy(worker)
            worker.head_since = desk.now
            if self._scales:
                desk.timers.cancel((Timer.IDLE, worker.id))
            if CLAIM not in desk.timers.instants:
                self._supervisor.watch_claims()
        elif worker.tasks and self._limits.slots == 1 and _REBALANCE not in desk.timers.instants:
            desk.timers.set(_REBALANCE, desk.now + policy.OVERRUN_S)
        task.move(states.TASK_RUNNING)
        task.worker = worker
        worker.tasks.append(task.id)
        desk.out.append(do.SendTask(worker.id, task.id))

    def steal_for_idle(self) -> None:
        """Nobody waits, a worker is idle, another has tasks pipelined that are worth the way: take them back."""
        # As long as anything is pipelined, the timer is set that looks after it.
        if not self._fleet.idle or _REBALANCE not in self._desk.timers:
            return
        for worker in self._fleet:
            if (
                len(worker.tasks) > 1
                and worker.state is states.WORKER_BUSY
                and self._is_worth_stealing(worker.tasks[1])
            ):
                self._desk.out.append(do.RetractTasks(worker.id))
                return

    def _is_worth_stealing(self, number: int) -> bool:
        task = self._tasks.get(number)
        if task is None:
            return False
        estimate = self._run_times.estimate(task.name)
        return estimate is None or estimate >= policy.STEAL_TASK_S

    def rebalance(self) -> None:
        """Tasks wait behind one that turned out to be long: take them back."""
        desk = self._desk
        pipelining = [worker for worker in self._fleet if len(worker.tasks) > 1]
        for worker in pipelining:
            if desk.now - worker.head_since >= policy.OVERRUN_S:
                desk.out.append(do.RetractTasks(worker.id))
        if pipelining:
            desk.timers.set(_REBALANCE, desk.now + policy.OVERRUN_S)

    def refill(self, worker: Worker) -> bool:
        """Give the worker that has just answered its next tasks; False if there is more to think about.

        What ``dispatch`` would come to in the usual case, found without looking at the other workers: they were
        given all that they may have when something last changed for them.
        """
        queue = self._queue
        if not queue.entries or worker.state is not states.WORKER_BUSY or self._limits.slots > 1:
            return False
        if worker.interrupted is not None:
            return False
        while (load := len(worker.tasks)) < policy.PIPELINE_DEPTH and (number := queue.peek()) is not None:
            task = self._tasks[number]
            if load and (load >= self._depth(task) or self._fleet.retires_after(worker, load)):
                break
            queue.pop()
            self._send(task, worker)
        return True
