"""Feed the scheduler with what happened and when, and perform its commands. Nothing is decided here.

Everything here runs on one event loop's thread. An event that arrives while commands are being performed (a backend
may answer at once) waits its turn, so that the scheduler sees one event after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from random import random as default_random
from threading import get_ident
from typing import TYPE_CHECKING, Any

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core.scheduler import Scheduler
from lifepool._core.states import TASK_COMPLETED, PoolState, TaskState
from lifepool._engine.answer_polling import AnswerPolling
from lifepool._engine.failed_commands import (
    CLOSE_HINT,
    forked_copy_error,
    give_up_worker,
    settle_anyway,
    warn_of_kept_views,
)
from lifepool._engine.failure_log import FailureLog
from lifepool._engine.queries import Queries
from lifepool._engine.snapshot import Traffic
from lifepool._engine.submission import Submissions
from lifepool._engine.timer import Alarm
from lifepool._engine.waiting_queue import WaitingQueue
from lifepool._host.cpus import may_poll
from lifepool.backends.base import require_kill
from lifepool.errors import InternalError, PoolClosed, PoolError, QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.policy import Limits
    from lifepool._engine.deciding import DecidingScheduler
    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.hook_calls import Observation
    from lifepool._transfer.context import Carrier
    from lifepool.backends.base import Backend

logger = logging.getLogger("lifepool")


class Engine:
    """Run one scheduler on one backend and one event loop.

    Args:
        backend: Where tasks run.
        limits: The scheduler's settings.
        clock: Monotonic seconds.
        random: Returns a random number in [0, 1), for jitter.
        carrier: Packs the context variables that go along with tasks.
        observation: Calls the hooks; None while there are none.
        name: What the pool is called in the log.

    Attributes:
        submissions: Makes tasks of calls.
        queries: Answers what can be asked from any thread.
        waiting_queue: Calls of ``map`` and ``gather`` that wait for room.
        failures: Logs tasks and calls that failed.
        handles: The handles of tasks without an outcome, by their numbers.
        started: Done when the first workers are ready, or can't start.
        closed: Done when all tasks have their outcomes and all workers are gone.
        cut_off: Tasks that the end of the pool overtook, by the name of their function.
    """

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = default_random,
        carrier: Carrier | None = None,
        observation: Observation | None = None,
        name: str = "lifepool",
    ) -> None:
        self.observation = observation
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.failures: FailureLog = FailureLog(name, self.loop)
        self.thread: int = get_ident()
        self._backend = backend
        self.clock = clock
        self._now = clock()  # of the event that is being decided about
        self.handles: dict[int, TaskHandle[Any]] = {}
        self._traffic = Traffic()
        self.queries: Queries
        self._scheduler, self.queries = self._make_scheduler(limits, random)
        self.waiting_queue: WaitingQueue = WaitingQueue(self._scheduler, self.loop)
        self.submissions: Submissions = Submissions(self, backend, carrier)
        self._preparing = self.submissions.preparing
        self._pending: deque[on.Event] = deque()
        self._feeding = False
        self._broken: PoolError | None = None
        self._alarm = Alarm(self.loop, clock, lambda: self.feed(on.TimerFired()))
        self.started: asyncio.Future[None] = self.loop.create_future()
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self._recycled: asyncio.Future[None] | None = None  # while workers are being replaced
        self.cut_off: Counter[str] = Counter()
        self._answers = AnswerPolling(self.loop, clock) if backend.capabilities.own_processes and may_poll() else None
        self._perform: dict[type, Callable[[Any], None]] = {
            do.SendTask: self._send_task,
            do.Settle: self._settle,
            do.RetractTasks: self._retract_tasks,
            do.InterruptTask: lambda c: backend.interrupt(c.worker, c.task),
            do.StartWorker: lambda c: backend.start_worker(c.worker),
            do.StopWorker: lambda c: backend.stop_worker(c.worker),
            do.KillWorker: lambda c: backend.kill_worker(c.worker),
            do.SetTimer: lambda c: self._alarm.set(c.when),
            do.ReportStarted: lambda c: _resolve(self.started, c.error),
            do.ReportClosed: self._report_closed,
            do.ReportRecycled: self._report_recycled,
            do.ReportWorkerExit: self._report_worker_exit,
            do.WarnOfKeptViews: warn_of_kept_views,
        }

    def _make_scheduler(self, limits: Limits, random: Callable[[], float]) -> tuple[DecidingScheduler, Queries]:
        """Return what decides, and what answers questions about it."""
        scheduler = Scheduler(limits, random=random)
        return scheduler, Queries(scheduler, self._backend, self.handles, self._traffic, self.clock)

    # -- for the pool ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> PoolState:
        """Return where the pool is in its life."""
        return self._scheduler.state

    @property
    def is_broken(self) -> bool:
        """Whether a bug of ours has stopped it for good."""
        return self._broken is not None

    def task_state(self, task: int) -> TaskState | None:
        """Return the state of a task without an outcome."""
        return self._scheduler.task_state(task)

    def is_here(self) -> bool:
        """Return whether this is the thread that runs the event loop; if so, remember it as that."""
        try:
            is_here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False
        if is_here:
            self.thread = get_ident()
        return is_here

    async def open(self) -> None:
        """Open the backend and begin to start workers; ``started`` is done when they are ready."""
        await self._backend.open(self)
        self.forward_logs()
        self.feed(on.StartRequested())

    def forward_logs(self) -> None:
        """Have workers that start from now on send what they log, if a hook wants that."""
        if self.observation is not None:
            self.observation.forward_logs(self._backend)

    def abandon(self) -> None:
        """End the workers without the event loop, which was closed under the pool, and give all tasks an outcome."""
        self._broken = PoolClosed("the pool's event loop was closed", hint=CLOSE_HINT)
        try:
            self._backend.abandon()
        finally:
            for handle in list(self.handles.values()):
                with contextlib.suppress(RuntimeError):  # whoever awaits it is on that loop, and will never be resumed
                    self._finish(handle, TaskState.CANCELLED, self._broken)
                if not handle.cancelled():
                    handle.exception()  # the log has it

    def cancel_task(self, task: int) -> bool:
        """Cancel a task by its number, from any thread; return whether it had no outcome yet."""
        handle = self.handles.get(task)
        return handle is not None and handle.cancel()

    def admit(self, timeout: float | None, fair_key: str | None, name: str | None) -> None:
        """Raise what a task would be turned away with now; see ``Scheduler.admit``."""
        refusal = self._broken or self._scheduler.admit(timeout, fair_key, name)
        if refusal is not None:
            raise refusal

    def refuse(self, refusal: PoolError | None) -> None:
        """Raise what a task is refused with, if that is something; all are, once a bug of ours has stopped it."""
        if (refusal := self._broken or refusal) is not None:
            raise refusal

    def count_refused(self, calls: int) -> None:
        """Count calls that were refused before they became tasks."""
        self._scheduler.tally.refused += calls

    def count_request(self, decision: str) -> None:
        """Count what load shedding has decided about a request."""
        self._scheduler.tally.requests[decision] += 1

    def cancel(self, handle: TaskHandle[Any]) -> None:
        """Drop or interrupt the task of a handle that was cancelled."""
        if handle.id in self.handles:
            self.feed(on.TaskCancelled(handle.id, handle._abandon))

    async def recycle(self) -> None:
        """Replace all workers, one after another, each successor first; return when the last one has taken over.

        Raises:
            WorkerStartError: If a successor can't start; the workers that were not replaced stay.
            PoolClosed: If the pool does not run, or ends meanwhile.
            BackendUnsupported: If the backend's workers are not its own.

        Cancellation:
            The replacement goes on.
        """
        require_kill(self._backend.capabilities)
        if self._broken is not None:
            raise self._broken
        if (recycled := self._recycled) is None:
            recycled = self._recycled = self.loop.create_future()
            self.feed(on.RecycleRequested())
        await asyncio.shield(recycled)

    def request_drain(self, timeout: float) -> None:
        """Take nothing new, and end when everything is done, or after ``timeout`` seconds; ``closed`` says when."""
        self.feed(on.DrainRequested(timeout) if timeout > 0 else on.CloseRequested())

    def request_close(self) -> None:
        """End now: workers are killed, and every handle gets its outcome, many of them in later turns of the loop.

        ``closed`` says when all have theirs, and the workers are gone.
        """
        self.feed(on.CloseRequested())

    async def release(self) -> None:
        """Have the backend end what is left and release everything."""
        if self.handles:
            self.feed(on.CloseRequested(at_once=True))  # the end has waited long enough for their outcomes
        self._alarm.cancel()
        self.failures.flush()
        await self._backend.close()

    # -- Listener: what the backend reports ---------------------------------------------------------------------------

    def ready(self, worker: int, cpu_share: float | None = None) -> None:
        """Take note that a worker can take tasks."""
        self.feed(on.WorkerReady(worker, cpu_share))
        if self.observation is not None:
            self.observation.worker_ready(worker)

    def returned(
        self,
        worker: int,
        task: int,
        value: object,
        error: BaseException | None,
        *,
        run_s: float,
        size: int = 0,
        shared: bool = False,
        memory: int | None = None,
        kept: on.KeptViews | None = None,
    ) -> None:
        """Take a worker's answer."""
        self._traffic.received += size
        if shared:
            self._traffic.shared_received += size
        handle = self.handles.get(task)
        if self._answers is not None and self._answers.waits:
            self._answers.end()
        retryable = False
        if handle is not None:
            record = handle._record
            if record is not None:
                record.run_s = run_s
                record.bytes_received += size
            handle._value, handle._error = value, error
            retryable = error is not None and handle._is_retried_on(error)
        self.feed(on.TaskReturned(worker, task, error is None, run_s, retryable, memory, kept))

    def time_left(self, task: int) -> float | None:
        """Return the seconds until the deadline of a task, or None if it has none."""
        return self._scheduler.time_left(task, self.clock())

    def progressed(self, worker: int, task: int, value: object) -> None:
        """Keep what a running task reported about its progress."""
        handle = self.handles.get(task)
        if handle is not None:
            handle._progress = value

    def exited(self, event: on.WorkerExited) -> None:
        """Take note that a worker is gone."""
        if event.start_error is None and self.state in (PoolState.STARTING, PoolState.RUNNING):
            logger.debug("worker %d exited: %s", event.worker, event)
        self.feed(event)

    def forked(self) -> None:
        """Refuse every call, and call no hook: this is a forked copy of the pool's process."""
        self.observation, self._broken = None, forked_copy_error()
        self._report_closed(do.ReportClosed())

    # -- the loop of decisions -------------------------------------------------------------------------------------

    def feed(self, event: on.Event) -> None:
        """Let the scheduler decide about an event, and perform its commands."""
        if self._feeding:
            self._pending.append(event)
            return
        if self._broken is not None:
            return
        self._feeding = True
        try:
            handle, clock, perform = self._scheduler.handle, self.clock, self._perform
            while True:
                self._now = now = clock()
                for command in handle(event, now):
                    try:
                        perform[type(command)](command)
                    except Exception as error:
                        self.exited(give_up_worker(self._backend, command, error))
                if not self._pending:
                    if self.waiting_queue.waiting:
                        self.waiting_queue.serve()
                    return
                event = self._pending.popleft()
        except Exception as error:
            self._break(error)
        finally:
            self._feeding = False

    def time_has_changed(self) -> None:
        """Deal with all that is due: a test has moved the clock."""
        self._alarm.cancel()
        self.feed(on.TimerFired())
        while self._alarm.is_due():  # of many timers some are dealt with at once
            self._alarm.cancel()
            self.feed(on.TimerFired())

    def _break(self, error: Exception) -> None:
        """Stop for good, and fail everything: the scheduler's state can't be trusted any more."""
        logger.critical("lifepool is broken and stops", exc_info=error)
        self._broken = error if isinstance(error, InternalError) else InternalError(repr(error))
        self._broken.__cause__ = error
        self._pending.clear()
        self.waiting_queue.dismiss()
        self._finish_all(TaskState.LOST, self._broken)
        for future in (self.started, self.closed, self._recycled):
            _resolve(future, self._broken)

    def _finish_all(self, outcome: TaskState, error: PoolError) -> None:
        """Give each task that has none an outcome, without the scheduler."""
        for handle in list(self.handles.values()):
            try:
                self._finish(handle, outcome, error)
            except Exception as another:
                settle_anyway(handle, another)

    # -- performing ------------------------------------------------------------------------------------------------

    def _send_task(self, command: do.SendTask) -> None:
        handle = self.handles[command.task]
        payload = handle._payload
        assert payload is not None  # noqa: S101 - only settled tasks have lost their payload
        self._traffic.sent += payload.size
        if payload.shared:
            self._traffic.shared_sent += payload.size
        record, watch = handle._record, self.observation
        if record is not None and watch is not None:
            record.attempts = 1 if record.sent is None else self._scheduler.attempts_of(command.task)
            record.worker, record.sent = command.worker, self._now
            record.bytes_sent += payload.size
            if watch.on_sent:
                watch.notify(watch.on_sent, record)
        self._backend.send(command.worker, command.task, payload)
        if self._answers is not None and len(self.handles) == 1:
            self._answers.begin()

    def _retract_tasks(self, command: do.RetractTasks) -> None:
        self.feed(on.TasksRetracted(command.worker, self._backend.retract(command.worker)))

    def _settle(self, command: do.Settle) -> None:
        handle = self.handles[command.task]
        try:
            is_logged = False
            if command.details is not None:
                error = command.error or handle._error
                is_logged = self.failures.settled(handle._name, command.details, command.outcome, error, self._now)
            self._finish(handle, command.outcome, command.error)
            if is_logged and not handle.cancelled():
                handle.exception()  # asyncio need not log it again if nobody awaits it
        except Exception as failure:
            settle_anyway(handle, failure)

    def _finish(self, handle: TaskHandle[Any], outcome: TaskState, error: PoolError | None) -> None:
        del self.handles[handle._task]
        handle._outcome = outcome
        handle._payload = None
        if self._preparing and (preparing := self._preparing.pop(handle._task, None)) is not None:
            preparing.cancel()
        value, answer_error = handle._value, handle._error
        handle._value = handle._error = None
        if handle._record is not None and self.observation is not None:
            self.observation.settled(handle._record, outcome, error or answer_error, self._now)
            handle._record = None
        if handle.done():  # cancelled by its owner, perhaps because others were by the end of the pool
            if self.state is PoolState.CLOSED:
                self.cut_off[handle._name] += 1
            return
        if outcome is TASK_COMPLETED:
            handle.set_result(value)
        elif error is not None:
            if outcome is TaskState.CANCELLED and not isinstance(error, QueueFull):
                self.cut_off[handle._name] += 1
            handle.set_exception(error)
        elif answer_error is not None:
            handle.set_exception(answer_error)
        else:
            handle.cancel()

    def _report_recycled(self, command: do.ReportRecycled) -> None:
        recycled, self._recycled = self._recycled, None
        _resolve(recycled, command.error)

    def _report_worker_exit(self, command: do.ReportWorkerExit) -> None:
        if self.observation is not None:
            self.observation.worker_exited(command.end, command.reason.value, command.completed)

    def _report_closed(self, _: do.ReportClosed) -> None:
        _resolve(self.closed, None)
        _resolve(self.started, PoolClosed("the pool was closed while it started"))


def _resolve(future: asyncio.Future[None] | None, error: BaseException | None) -> None:
    """Resume those who await a future; do nothing if it is done already, or if there is none."""
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # mark as retrieved: whoever awaits it still gets it
