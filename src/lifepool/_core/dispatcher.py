"""The dispatcher: which waiting task goes to which worker, and what is taken back because it would wait too long there.

Rules
    1. A free worker gets the next task at once; but of very short tasks, only as many workers are kept busy as there
       are CPUs, as long as those have room. To wake one more worker takes longer than such a task, and it would take
       the CPU from the others, and from the server.
    2. With none free, a busy worker gets one ahead (*pipelining*) if tasks of that name are short: the more, the
       shorter they are, and the later the server hears of answers. Its next task is then there already when it answers.
    3. Nobody waits behind a long task while another worker is free: what is pipelined is taken back when the task
       before it overruns, and when a worker becomes free and nobody else waits.
    4. No task is sent after its timeout, as when the event loop stood still: its timer is due, and ends it. Those
       behind it wait until the scheduler has dealt with what is due, ``TIMERS_AT_ONCE`` in each turn of the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lifepool._core import commands as do
from lifepool._core import policy, states
from lifepool._core.supervisor import CLAIM
from lifepool._core.timers import Timer

if TYPE_CHECKING:
    from lifepool._core.decision import DecisionContext
    from lifepool._core.fleet import Worker
    from lifepool._core.supervisor import Supervisor
    from lifepool._core.task import Task
    from lifepool._core.task_table import TaskTable

_REBALANCE: Final = (Timer.REBALANCE, 0)


class Dispatcher:
    """Match tasks and workers.

    Args:
        decision: Shared by all parts of the scheduler.
        table: All tasks without an outcome, and who of them waits.
        supervisor: Owns the fleet.
    """

    def __init__(self, decision: DecisionContext, table: TaskTable, supervisor: Supervisor) -> None:
        self._decision = decision
        self._limits = decision.limits
        self._tasks = table.tasks
        self._queue = table.queue
        self._supervisor = supervisor
        self._fleet = supervisor.fleet
        self._run_times = decision.run_times
        self._cpus = policy.workers_for_short(self._limits)
        self._scales = self._limits.min_workers < self._limits.max_workers

    def assign(self, task: Task) -> bool:
        """Give a task, before which none waits, to a worker; return False if no worker may take it."""
        if task.deadline <= self._decision.now:
            return False
        worker = (self._gathered(task) if self._cpus else None) or self._fleet.free_worker()
        worker = worker or self._pipeline_worker(task)
        if worker is None:
            return False
        self._send(task, worker)
        return True

    def dispatch(self) -> None:
        """Give waiting tasks to workers as long as a worker may take one, best rank first."""
        queue, tasks = self._queue, self._tasks
        while (number := queue.peek()) is not None:
            task = tasks[number]
            if task.deadline <= self._decision.now:
                break
            worker = (self._gathered(task) if self._cpus else None) or self._fleet.free_worker()
            worker = worker or self._pipeline_worker(task)
            if worker is None:
                break
            queue.pop()
            self._send(task, worker)

    def _gathered(self, task: Task) -> Worker | None:
        """Return a busy worker for a very short task though another is free: more of them than CPUs do not help."""
        fleet = self._fleet
        if len(fleet.busy) < self._cpus or not fleet.idle or not self._is_very_short(task):
            return None
        worker = fleet.pipeline_worker(policy.PIPELINE_DEPTH, self._decision.now - self._overrun_s())
        if worker is None:
            return None
        running = self._tasks.get(worker.tasks[0])  # nobody waits behind a long task, not even until it overruns
        return worker if running is not None and self._is_very_short(running) else None

    def _is_very_short(self, task: Task) -> bool:
        return policy.pipeline_depth(self._run_times.estimate(task.name)) == policy.PIPELINE_DEPTH

    def _pipeline_worker(self, task: Task) -> Worker | None:
        if self._limits.slots > 1:
            return None
        depth = self._depth(task)
        return self._fleet.pipeline_worker(depth, self._decision.now - self._overrun_s()) if depth > 1 else None

    def _overrun_s(self) -> float:
        """Return the seconds after which a task was not short after all; what is heard of it comes later by the gap."""
        return policy.OVERRUN_S + self._decision.gap_s

    def _depth(self, task: Task) -> int:
        """Return how many tasks a worker may have, this one included."""
        if not self._limits.can_retract:
            return 1
        return policy.pipeline_depth(self._run_times.estimate(task.name), self._decision.gap_s)

    def _send(self, task: Task, worker: Worker) -> None:
        decision = self._decision
        if worker.state is states.WORKER_READY:
            self._fleet.set_busy(worker)
            worker.head_since = decision.now
            if self._scales:
                decision.timers.cancel((Timer.IDLE, worker.id))
            if CLAIM not in decision.timers.instants:
                self._supervisor.watch_claims()
        elif worker.tasks and self._limits.slots == 1 and _REBALANCE not in decision.timers.instants:
            decision.timers.set(_REBALANCE, decision.now + self._overrun_s())
        task.move(states.TASK_RUNNING)
        task.worker = worker
        worker.tasks.append(task.id)
        decision.out.append(do.SendTask(worker.id, task.id))

    def steal_for_idle(self) -> None:
        """Take back pipelined tasks for an idle worker, if they are worth the way; called when no task waits."""
        # As long as anything is pipelined, the timer is set that looks after it.
        if not self._fleet.idle or _REBALANCE not in self._decision.timers:
            return
        for worker in self._fleet.busy.values():
            if len(worker.tasks) > 1 and self._is_worth_stealing(worker.tasks[1]):
                self._decision.out.append(do.RetractTasks(worker.id))
                return

    def _is_worth_stealing(self, number: int) -> bool:
        task = self._tasks.get(number)
        if task is None:
            return False
        estimate = self._run_times.estimate(task.name)
        return estimate is None or estimate >= policy.STEAL_TASK_S

    def rebalance(self) -> None:
        """Take back the tasks that wait behind a task which turned out to be long."""
        decision = self._decision
        pipelining, overrun_s = [worker for worker in self._fleet if len(worker.tasks) > 1], self._overrun_s()
        for worker in pipelining:
            if decision.now - worker.head_since >= overrun_s:
                decision.out.append(do.RetractTasks(worker.id))
        if pipelining:
            decision.timers.set(_REBALANCE, decision.now + overrun_s)

    def refill(self, worker: Worker) -> bool:
        """Give the worker that has just answered its next tasks; return False if ``dispatch`` is needed after all.

        This comes to what ``dispatch`` would in the usual case, without looking at the other workers: they were given
        all that they may have when something last changed for them.
        """
        queue = self._queue
        if not queue.entries or worker.state is not states.WORKER_BUSY or self._limits.slots > 1:
            return False
        if worker.interrupted is not None:
            return False
        while (load := len(worker.tasks)) < policy.PIPELINE_MOST and (number := queue.peek()) is not None:
            task = self._tasks[number]
            if task.deadline <= self._decision.now:
                return load > 0
            if load and (load >= self._depth(task) or self._fleet.retires_after(worker, load)):
                break
            queue.pop()
            self._send(task, worker)
        return True
