"""The engine: feeds the scheduler with what happened and the time, performs what it says. It decides nothing.

Everything here runs on one event loop's thread. An event that arrives while commands are being performed (a backend
may answer at once) waits its turn, so that the scheduler sees one event after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from itertools import islice
from random import random as default_random
from threading import get_ident
from typing import TYPE_CHECKING, Any

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core.scheduler import Scheduler
from lifepool._core.states import TASK_COMPLETED, PoolState, TaskState
from lifepool._core.supervisor import why_gone
from lifepool._engine.failing import end_anyway, forked_copy, given_up
from lifepool._engine.handle import TaskHandle
from lifepool._engine.snapshot import Traffic, look_at, snapshot
from lifepool.backends.base import require_kill, require_views
from lifepool.errors import InternalError, PoolClosed, PoolError, QueueFull, WorkerStartError
from lifepool.hooks import TaskRecord
from lifepool.naming import name_of, task_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.policy import Limits
    from lifepool._engine.observation import Observation
    from lifepool._engine.options import TaskOptions
    from lifepool.backends.base import Backend, Payload
    from lifepool.context import Carrier
    from lifepool.hooks import Luggage
    from lifepool.statistics import PoolStatistics, WorkerSnapshot

logger = logging.getLogger("lifepool")

#: Seconds for killed workers to be reaped at the very end. A kill takes milliseconds; this bounds what can't be killed
#: (a process in uninterruptible sleep).
REAP_S = 5.0


class Engine:
    """Runs one scheduler on one backend and one event loop.

    Args:
        backend: Where tasks run.
        limits: The scheduler's settings.
        clock: Monotonic seconds.
        random: Luck in [0, 1), for jitter.
        carrier: Packs the context variables that go along with tasks.
        observation: Tells the hooks what happens; None while there are none.
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
    ) -> None:
        self.observation = observation
        self._carrier = carrier
        self.loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self._backend = backend
        self._scheduler = Scheduler(limits, random=random)
        self._clock = clock
        self._now = clock()  # of the event that is being decided about
        self._handles: dict[int, TaskHandle[Any]] = {}
        self._preparing: dict[int, asyncio.Future[Payload]] = {}
        self._last_task = 0
        self._pending: deque[on.Event] = deque()
        self._feeding = False
        self._broken: PoolError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started: asyncio.Future[None] = self.loop.create_future()
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._recycled: asyncio.Future[None] | None = None  # while workers are being replaced
        self._ending = asyncio.Lock()
        self._traffic = Traffic()
        self._perform: dict[type, Callable[[Any], None]] = {
            do.SendTask: self._send_task,
            do.Settle: self._settle,
            do.RetractTasks: self._retract_tasks,
            do.InterruptTask: lambda c: backend.interrupt(c.worker, c.task),
            do.StartWorker: lambda c: backend.start_worker(c.worker),
            do.StopWorker: lambda c: backend.stop_worker(c.worker),
            do.KillWorker: lambda c: backend.kill_worker(c.worker),
            do.SetTimer: self._set_timer,
            do.ReportStarted: self._report_started,
            do.ReportClosed: self._report_closed,
            do.ReportRecycled: self._report_recycled,
        }

    # -- for the pool ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> PoolState:
        """Where the pool is."""
        return self._scheduler.state

    @property
    def is_broken(self) -> bool:
        """Whether a bug of ours has stopped it for good."""
        return self._broken is not None

    @property
    def crash_loop(self) -> WorkerStartError | None:
        """Why no worker comes up, while that is so."""
        return self._scheduler.crash_loop

    @property
    def has_free_worker(self) -> bool:
        """Whether a task that is submitted now starts at once."""
        return self._scheduler.fleet.free_worker() is not None

    async def start(self) -> None:
        """Start the backend and its first workers; return when they are ready.

        Raises:
            WorkerStartError: If one of them can't start.

        Cancellation:
            Ends what was started.
        """
        try:
            await self._backend.open(self)
            self.forward_logs()
            self.feed(on.StartRequested())
            await asyncio.shield(self._started)
        except BaseException:
            await self.end_now()
            raise

    def forward_logs(self) -> None:
        """Have workers that start from now on send what they log, if a hook wants that."""
        if self.observation is not None:
            self.observation.forward_logs(self._backend)

    async def wait_started(self) -> None:
        """Wait until the start that is under way has ended.

        Raises:
            WorkerStartError: If it failed.
        """
        await asyncio.shield(self._started)

    def give_up_start(self) -> None:
        """End the start that is under way: whoever awaits it gets ``PoolClosed``, and ends the rest."""
        self.feed(on.CloseRequested())

    def abandon(self) -> None:
        """The event loop was closed under the pool: end the workers without it."""
        self._backend.abandon()

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], options: TaskOptions, *, lent: bool = False
    ) -> TaskHandle[Any]:
        """Queue a call. If its payload takes long to make, the task is held until it is there.

        Args:
            fn: The function.
            args: Its arguments.
            options: How it is to be treated.
            lent: Whether the arguments stay as they are until the task is done.

        Raises:
            PoolClosed: If the pool takes no tasks.
            QueueFull: If there is no room, or no hope of being in time.
            TaskNotPicklable: If the call can't be sent.
            PayloadTooLarge: If it is too large.
        """
        watch = self.observation
        if watch is None or not watch.of_tasks:
            return self._submit(fn, args, options, None, lent=lent)
        record = TaskRecord(task_name(fn, args), self._clock(), options.timeout, options.priority, options.fair_key)
        try:
            return self._submit(fn, args, options, record, lent=lent)
        except PoolError as error:
            watch.refused(record, error)
            raise

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        options: TaskOptions,
        record: TaskRecord | None,
        *,
        lent: bool,
    ) -> TaskHandle[Any]:
        timeout = options.timeout
        name = None if timeout is None else name_of(fn)
        self.admit(timeout, options.fair_key, name)
        if not options.copy:
            require_views(self._backend.capabilities)
        watch = self.observation
        luggage: tuple[Luggage, ...] = () if record is None or watch is None else watch.packing(record, args)
        if self._carrier is not None and (values := self._carrier.pack()) is not None:
            luggage = (values, *luggage)
        prepared = self._backend.prepare(fn, args, luggage, lent=lent, copy=options.copy)
        self._last_task = number = self._last_task + 1
        if record is not None and watch is not None:
            record.id = number
            if watch.on_submitted:
                watch.tell(watch.on_submitted, record)
        payload = None if isinstance(prepared, asyncio.Future) else prepared
        handle: TaskHandle[Any] = TaskHandle(self, number, payload, options.retry_on, abandon=options.abandon)
        handle._record = record
        self._handles[number] = handle
        called = name_of(fn) if payload is None else payload.name
        retries, priority, fair_key = options.retries, options.priority, options.fair_key
        self.feed(on.TaskSubmitted(number, called, priority, timeout, retries, fair_key, payload is None))
        if isinstance(prepared, asyncio.Future):
            self._preparing[number] = prepared
            prepared.add_done_callback(lambda prepared: self._prepared(number, prepared))
        return handle

    def _prepared(self, task: int, payload: asyncio.Future[Payload]) -> None:
        """What was held back is ready, or can't be made, or was cancelled because nobody wants it any more."""
        handle = self._handles.get(task)
        if payload.cancelled() or handle is None:
            return
        del self._preparing[task]
        handle._error = payload.exception()
        handle._payload = None if handle._error else payload.result()
        self.feed(on.TaskPrepared(task, handle._error is None))

    def cancel_task(self, task: int) -> bool:
        """Take a task back by its number; whether it had no outcome yet."""
        handle = self._handles.get(task)
        return handle is not None and handle.cancel()

    def admit(self, timeout: float | None, fair_key: str | None, name: str | None) -> None:
        """Raise what a task would be turned away with now; see ``Door.refusal``."""
        refusal = self._broken or self._scheduler.refusal(timeout, fair_key, name)
        if refusal is not None:
            if isinstance(refusal, QueueFull):
                self.feed(on.SubmissionRefused())
            raise refusal

    def cancel(self, handle: TaskHandle[Any]) -> None:
        """The handle was cancelled: drop or break off its task."""
        if handle.id in self._handles:
            self.feed(on.TaskCancelled(handle.id, handle._abandon))

    def task_state(self, task: int) -> TaskState | None:
        """The state of a task without an outcome."""
        return self._scheduler.task_state(task)

    def statistics(self) -> PoolStatistics:
        """One look at everything."""
        return snapshot(self._scheduler, self._clock(), self._traffic)

    def workers(self) -> tuple[WorkerSnapshot, ...]:
        """One look at every worker."""
        now, handles, pid_of = self._clock(), self._handles, self._backend.pid
        return tuple(look_at(each, handles, pid_of(each.id), now) for each in self._scheduler.fleet)

    def record_of(self, task: int) -> TaskRecord | None:
        """What hooks are told of a task that has no outcome yet; None if none watched when it came."""
        handle = self._handles.get(task)
        return None if handle is None else handle._record

    def oldest_records(self, most: int) -> list[TaskRecord]:
        """The records of tasks that have no outcome yet, in the order in which they were submitted."""
        return list(islice((h._record for h in self._handles.values() if h._record is not None), most))

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
        if (recycled := self._recycled) is None:
            recycled = self._recycled = self.loop.create_future()
            recycled.add_done_callback(lambda done: done.exception())  # also if nobody waits any more
            self.feed(on.RecycleRequested())
        await asyncio.shield(recycled)

    async def drain(self, timeout: float) -> None:
        """Take nothing new, finish what is there within ``timeout`` seconds, then end.

        Cancellation:
            Ends at once: what is not finished is cancelled.
        """
        try:
            self.feed(on.DrainRequested(timeout))
            if not self._broken:
                await asyncio.shield(self._closed)
        finally:
            await self.end_now()

    async def end_now(self) -> None:
        """End at once; every handle gets an outcome and every worker is gone when this returns."""
        self.feed(on.CloseRequested())
        if not self._closed.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._closed), REAP_S)
        if self._timer is not None:
            self._timer.cancel()
        async with self._ending:  # two may end it at once, and both may go on when it has ended
            await self._backend.close()

    # -- Listener: what the backend says ---------------------------------------------------------------------------

    def ready(self, worker: int) -> None:
        """A worker can take tasks."""
        self.feed(on.WorkerReady(worker))
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
        retire: str = "",
    ) -> None:
        """A worker answered."""
        self._traffic.received += size
        if shared:
            self._traffic.shared_received += size
        handle = self._handles.get(task)
        retryable = False
        if handle is not None:
            record = handle._record
            if record is not None:
                record.run_s = run_s
                record.bytes_received += size
            handle._value, handle._error = value, error
            retryable = error is not None and isinstance(error, handle._retry_on)
        self.feed(on.TaskReturned(worker, task, error is None, run_s, retryable, memory, retire))

    def progressed(self, worker: int, task: int, value: object) -> None:
        """A running task said how far it is."""
        handle = self._handles.get(task)
        if handle is not None:
            handle._progress = value

    def exited(self, event: on.WorkerExited) -> None:
        """A worker is gone."""
        if event.start_error is None and self.state in (PoolState.STARTING, PoolState.RUNNING):
            logger.debug("worker %d exited: %s", event.worker, event)
        worker = self._scheduler.fleet.workers.get(event.worker)
        if self.observation is None or worker is None:
            self.feed(event)
        else:
            reason = why_gone(worker, event, ending=self.state.is_ending)
            self.feed(event)
            self.observation.worker_exited(event, reason, worker.completed)

    def forked(self) -> None:
        """This is a forked copy of the pool's process: refuse every call, and tell nobody of anything."""
        self.observation, self._broken = None, forked_copy()
        self._report_closed(do.ReportClosed())

    # -- the loop of decisions -------------------------------------------------------------------------------------

    def feed(self, event: on.Event) -> None:
        """Let the scheduler decide about an event and do what it says."""
        if self._feeding:
            self._pending.append(event)
            return
        if self._broken is not None:
            return
        self._feeding = True
        try:
            handle, clock, perform = self._scheduler.handle, self._clock, self._perform
            while True:
                self._now = now = clock()
                for command in handle(event, now):
                    try:
                        perform[type(command)](command)
                    except Exception as error:
                        self.exited(given_up(self._backend, command, error))
                if not self._pending:
                    return
                event = self._pending.popleft()
        except Exception as error:
            self._break(error)
        finally:
            self._feeding = False

    def _break(self, error: Exception) -> None:
        """The books can't be trusted any more: say so to everybody and stop."""
        logger.critical("lifepool is broken and stops", exc_info=error)
        self._broken = error if isinstance(error, InternalError) else InternalError(repr(error))
        self._broken.__cause__ = error
        self._pending.clear()
        for handle in list(self._handles.values()):
            try:
                self._finish(handle, TaskState.LOST, self._broken)
            except Exception as another:
                end_anyway(handle, another)
        for future in (self._started, self._closed, self._recycled):
            if future is not None and not future.done():
                future.set_exception(self._broken)
                future.exception()  # mark as retrieved: whoever awaits it still gets it

    # -- performing ------------------------------------------------------------------------------------------------

    def _send_task(self, command: do.SendTask) -> None:
        handle = self._handles[command.task]
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
                watch.tell(watch.on_sent, record)
        self._backend.send(command.worker, command.task, payload)

    def _retract_tasks(self, command: do.RetractTasks) -> None:
        self.feed(on.TasksRetracted(command.worker, self._backend.retract(command.worker)))

    def _settle(self, command: do.Settle) -> None:
        handle = self._handles[command.task]
        try:
            self._finish(handle, command.outcome, command.error)
        except Exception as error:
            end_anyway(handle, error)

    def _finish(self, handle: TaskHandle[Any], outcome: TaskState, error: PoolError | None) -> None:
        del self._handles[handle._task]
        handle._outcome = outcome
        handle._payload = None
        if self._preparing and (preparing := self._preparing.pop(handle._task, None)) is not None:
            preparing.cancel()
        value, answer_error = handle._value, handle._error
        handle._value = handle._error = None
        if handle._record is not None and self.observation is not None:
            self.observation.settled(handle._record, outcome, error or answer_error, self._now)
            handle._record = None
        if handle.done():  # cancelled by its owner
            return
        if outcome is TASK_COMPLETED:
            handle.set_result(value)
        elif error is not None:
            handle.set_exception(error)
        elif answer_error is not None:
            handle.set_exception(answer_error)
        else:
            handle.cancel()

    def _set_timer(self, command: do.SetTimer) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(command.when - self._clock(), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.feed(on.TimerFired())

    def _report_started(self, command: do.ReportStarted) -> None:
        if command.error is None and not self._started.done():
            self._started.set_result(None)
        elif command.error is not None and not self._started.done():
            self._started.set_exception(command.error)
            self._started.exception()

    def _report_recycled(self, command: do.ReportRecycled) -> None:
        recycled, self._recycled = self._recycled, None
        if recycled is not None:
            recycled.set_exception(command.error) if command.error else recycled.set_result(None)

    def _report_closed(self, _: do.ReportClosed) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        if not self._started.done():
            self._started.set_exception(PoolClosed("the pool was closed while it started"))
            self._started.exception()
