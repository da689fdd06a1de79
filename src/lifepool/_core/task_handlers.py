"""What follows from an event about a task: it is submitted, prepared, answered, taken back, cancelled, or late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import policy, states
from lifepool._core.pool_states import unfinished
from lifepool._core.states import ExitReason, TaskState, WorkerState
from lifepool._core.task import Task
from lifepool._core.timers import Timer
from lifepool.errors import InternalError, TaskTimeout

if TYPE_CHECKING:
    from lifepool._core import events as on
    from lifepool._core.admission import Admission
    from lifepool._core.decision import DecisionContext
    from lifepool._core.dispatcher import Dispatcher
    from lifepool._core.first_runs import ProvisionalTasks
    from lifepool._core.fleet import Worker
    from lifepool._core.pool_states import PoolStates
    from lifepool._core.recycler import Recycler
    from lifepool._core.supervisor import Supervisor
    from lifepool._core.task_table import TaskTable


class TaskHandlers:
    """Decide what follows from an event about a task.

    Args:
        decision: Shared by all parts of the scheduler.
        table: All tasks without an outcome.
        supervisor: Owns the fleet.
        recycler: Replaces workers that have done their share.
        pool: Ends a drain when the last task is done.
        admission: Learns from how admitted tasks fare.
        dispatcher: Gives tasks to workers.
        provisional: The first tasks of functions.
    """

    def __init__(
        self,
        decision: DecisionContext,
        table: TaskTable,
        supervisor: Supervisor,
        recycler: Recycler,
        pool: PoolStates,
        admission: Admission,
        dispatcher: Dispatcher,
        provisional: ProvisionalTasks,
    ) -> None:
        self._decision = decision
        self._limits = decision.limits
        self._table = table
        self._tasks = table.tasks
        self._queue = table.queue
        self._settle = table.settle
        self._supervisor = supervisor
        self._fleet = supervisor.fleet
        self._recycler = recycler
        self._pool = pool
        self._run_times = decision.run_times
        self._admission = admission
        self._dispatcher = dispatcher
        self._provisional = provisional

    # -- coming ---------------------------------------------------------------------------------------------------

    def on_submitted(self, event: on.TaskSubmitted) -> None:
        """Give the task to a worker, or let it wait."""
        if event.task in self._tasks:
            raise InternalError(f"task {event.task} was submitted twice", self._decision.history.of(task=event.task))
        decision = self._decision
        task = self._tasks[event.task] = Task(event, decision.now)
        decision.tally.submitted += 1
        if decision.pool_state is states.POOL_CLOSED:  # it was admitted just before the pool was closed
            return self._settle(task, TaskState.CANCELLED, unfinished())
        if event.timeout is not None:
            decision.timers.set((Timer.TASK_DEADLINE, task.id), task.deadline)
        if event.preparing:
            self._table.preparing.add(task.id)
        else:
            self._begin(task)

    def on_adopted(self, event: on.TaskAdopted) -> None:
        """Take over a task of another scheduler; it was counted there."""
        task = self._tasks[event.task] = Task(event, event.submitted)
        task.attempts = event.attempts
        if task.timeout is not None:
            self._decision.timers.set((Timer.TASK_DEADLINE, task.id), task.deadline)
        self._table.preparing.add(task.id)

    def on_prepared(self, event: on.TaskPrepared) -> None:
        """Give the task, whose payload is ready, to a worker, or let it wait; without a payload it has failed."""
        task = self._tasks.get(event.task)
        if self._decision.pool_state is states.POOL_CLOSED:
            return  # it is settled with the others that are left
        if task is not None and event.succeeded:
            self._table.preparing.remove(task.id)
            self._begin(task)
        elif task is not None:
            self._settle(task, TaskState.FAILED)
            self.after_change()

    def _begin(self, task: Task) -> None:
        """Give a task to a worker; queue it if none is free for it, or others wait already."""
        if not self._queue.entries and self._dispatcher.assign(task):
            return
        self._admission.note_queued()
        if task.timeout is not None:
            task.was_predicted = self._admission.predicts(task.name)
            if not task.firm and self._run_times.mean(task.name) is None:
                self._provisional.note(task, task.timeout)
        self._table.enqueue(task)
        self._supervisor.scale_up(len(self._queue))

    # -- coming back ----------------------------------------------------------------------------------------------

    def on_returned(self, event: on.TaskReturned) -> None:
        """Settle the task or try it again, and give the worker its next one."""
        worker = self._fleet.workers.get(event.worker)
        if worker is None:
            return
        number, run_s = event.task, event.run_s
        if number not in worker.tasks:
            # Not a bug of ours: users' code can write to the worker's descriptors.
            self._supervisor.kill(worker, ExitReason.UNKNOWN_TASK)
            return
        decision = self._decision
        worker.tasks.remove(number)
        worker.completed += 1
        decision.gap_s = policy.next_gap(decision.gap_s, decision.now - worker.head_since - run_s)
        worker.head_since = decision.now
        if worker.interrupted is not None:
            self._supervisor.answered(worker, number)
        if worker.loading is not None:
            self._supervisor.forget_import(worker)
        tally = decision.tally
        tally.run.observe(run_s)
        task = self._tasks.get(number)
        if task is not None:
            self._run_times.learn(task.name, run_s)
            if self._provisional.waiting and worker.completed > 1:
                self._provisional.learn(task.name, run_s)
            waited = decision.now - run_s - task.submitted
            tally.wait.observe(waited if waited > 0.0 else 0.0)
            if event.succeeded:
                if task.timeout is not None:
                    self._admission.learn(late=False)
                self._settle(task, states.TASK_COMPLETED)
            else:
                self._failed(task, retryable=event.retryable)
        if worker.tasks and worker.tasks[0] not in self._tasks and self._limits.slots == 1:
            self._supervisor.interrupt(worker, worker.tasks[0])  # it is running now, and nobody wants it any more
        self._after_task(worker, event)

    def _failed(self, task: Task, *, retryable: bool) -> None:
        if retryable and task.retries > 0:
            self._table.retry(task)
        else:
            self._settle(task, TaskState.FAILED)

    def _after_task(self, worker: Worker, event: on.TaskReturned) -> None:
        """Let a worker go that has answered a task, or give it the next."""
        is_running = self._decision.pool_state is states.POOL_RUNNING
        if (event.kept is not None or self._recycler.is_needed) and worker.state is WorkerState.BUSY:
            self._recycler.after_task(worker, event, running=is_running)
        if not is_running or not self._dispatcher.refill(worker):
            self.settle_down(worker)
            self.after_change()

    def settle_down(self, worker: Worker) -> None:
        """Make a worker without tasks ready for the next, or let it go if it is to go."""
        if worker.tasks:
            return
        if worker.state is states.WORKER_BUSY:
            self._fleet.set_ready(worker)
        elif worker.state is WorkerState.DRAINING and worker.exit_reason is not None:
            self._supervisor.stop(worker, worker.exit_reason)

    def on_retracted(self, event: on.TasksRetracted) -> None:
        """Queue the tasks again that were taken back from a worker."""
        worker = self._fleet.workers.get(event.worker)
        if worker is None:
            return
        suspect, worker.suspect = worker.suspect, None
        if not event.tasks:
            return  # too late, it had started them; asking again would go in circles
        back = set(event.tasks)
        if worker.interrupted is not None and worker.interrupted in back:
            self._supervisor.answered(worker, worker.interrupted)  # it never ran: there is nothing to break off
        if suspect in back and worker.state is not WorkerState.STOPPING:
            self._supervisor.kill(worker, ExitReason.TASK_NOT_TAKEN)
        worker.tasks = [task for task in worker.tasks if task not in back]
        self._table.requeue(event.tasks)
        self.settle_down(worker)
        self.after_change()

    # -- given up -------------------------------------------------------------------------------------------------

    def on_cancelled(self, event: on.TaskCancelled) -> None:
        """Settle the task, then drop it or break it off."""
        task = self._tasks.get(event.task)
        if task is not None:
            self._settle(task, TaskState.CANCELLED)
            self._give_up_work(task, abandon=event.abandon)
            self.after_change()

    def on_deadline(self, number: int) -> None:
        """Settle a task whose timeout has passed, then drop it or break it off."""
        task = self._tasks[number]
        timeout, ran_s = task.timeout or 0.0, self._has_run_for(task)
        importing = task.worker is not None and task.worker.loading == number
        # If it was being imported for, or ran too long, it was not wrong to admit it.
        if task.was_predicted and not importing and (ran_s or 0.0) < timeout / 2:
            self._admission.learn(late=True)
        if ran_s is not None:
            self._run_times.learn_at_least(task.name, ran_s)
        error = TaskTimeout(timeout, started=ran_s is not None, importing=importing)
        self._settle(task, TaskState.TIMED_OUT, error)
        self._give_up_work(task)
        self.after_change()

    def on_review(self, _: int) -> None:
        """Refuse the provisional tasks that turned out to be too late, unless the end of the pool overtakes them."""
        if self._decision.pool_state is states.POOL_CLOSED:
            return
        for task, refusal in self._provisional.refusals():
            self._decision.tally.refused += 1
            self._settle(task, TaskState.CANCELLED, refusal)
        self.after_change()

    def on_retry(self, number: int) -> None:
        """Queue a task for its next try."""
        self._table.enqueue(self._tasks[number])
        self.after_change()

    def _give_up_work(self, task: Task, *, abandon: bool = False) -> None:
        """Drop a settled task that a worker has: take it back, or break it off."""
        worker = task.worker
        if worker is None:
            return
        if self._limits.can_retract and len(worker.tasks) > 1:
            self._decision.out.append(do.RetractTasks(worker.id))
        if self._is_running(task, worker) and not abandon:
            self._supervisor.interrupt(worker, task.id)

    def _is_running(self, task: Task, worker: Worker) -> bool:
        """Decide whether the worker is taken to run the task, not to have it pipelined."""
        return self._limits.slots > 1 or worker.tasks[0] == task.id

    def _has_run_for(self, task: Task) -> float | None:
        """Return the seconds for which the task runs, or None if it does not."""
        worker = task.worker
        if worker is None or not self._is_running(task, worker) or worker.loading == task.id:
            return None
        if self._limits.is_cluster:
            return None if task.taken is None else self._decision.now - task.taken
        return self._decision.now - worker.head_since

    # -- matching -------------------------------------------------------------------------------------------------

    def after_change(self) -> None:
        """Give waiting tasks to free workers, then see whether the fleet has the right size.

        Called whenever something became free or came to wait.
        """
        if self._decision.pool_state is states.POOL_CLOSED:
            return  # what still waits is settled
        self._dispatcher.dispatch()
        if self._queue.entries:
            self._supervisor.scale_up(len(self._queue))
        else:
            self._dispatcher.steal_for_idle()
        self._supervisor.watch_idle()
        if self._decision.pool_state is states.POOL_DRAINING:
            self._pool.finish_drain()
