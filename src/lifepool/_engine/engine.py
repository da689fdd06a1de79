"""The engine: feeds the scheduler with what happened and the time, performs what it says. It decides nothing.

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
from lifepool._engine.failed_commands import CLOSE_HINT, end_anyway, forked_copy, given_up, warn_of_kept_views
from lifepool._engine.failure_log import Mishaps
from lifepool._engine.handle import TaskHandle
from lifepool._engine.queries import EngineViews
from lifepool._engine.snapshot import Traffic
from lifepool._engine.timer import Alarm
from lifepool._engine.waiting_line import Line
from lifepool._transfer.grouped import Chunk
from lifepool.backends.base import require_kill, require_views
from lifepool.errors import InternalError, PoolClosed, PoolError, QueueFull
from lifepool.hooks import TaskRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.policy import Limits
    from lifepool._engine.hook_calls import Observation
    from lifepool._engine.options import TaskOptions
    from lifepool._transfer.context import Carrier, PropagatedContext
    from lifepool.backends.base import Backend, Payload

logger = logging.getLogger("lifepool")


class Engine(EngineViews):
    """Runs one scheduler on one backend and one event loop.

    Args:
        backend: Where tasks run.
        limits: The scheduler's settings.
        clock: Monotonic seconds.
        random: Luck in [0, 1), for jitter.
        carrier: Packs the context variables that go along with tasks.
        observation: Tells the hooks what happens; None while there are none.
        name: What the pool is called in the log.

    Attributes:
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
        self._carrier = carrier
        self.loop = asyncio.get_running_loop()
        self.mishaps = Mishaps(name, self.loop)
        self.thread = get_ident()
        self._backend = backend
        self._scheduler = Scheduler(limits, random=random)
        self.line = Line(self._scheduler, self.loop)
        self._clock = clock
        self._now = clock()  # of the event that is being decided about
        self._handles: dict[int, TaskHandle[Any]] = {}
        self._preparing: dict[int, asyncio.Future[Payload]] = {}
        self._last_task = 0
        self._pending: deque[on.Event] = deque()
        self._feeding = False
        self._broken: PoolError | None = None
        self._alarm = Alarm(self.loop, clock, lambda: self.feed(on.TimerFired()))
        self.started: asyncio.Future[None] = self.loop.create_future()
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self._recycled: asyncio.Future[None] | None = None  # while workers are being replaced
        self.cut_off: Counter[str] = Counter()
        self._traffic = Traffic()
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

    # -- for the pool ---------------------------------------------------------------------------------------------

    def is_here(self) -> bool:
        """Tell whether this is the thread that runs the event loop; if so, remember it as that."""
        try:
            is_here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False
        if is_here:
            self.thread = get_ident()
        return is_here

    async def open(self) -> None:
        """Open the backend and begin to start workers; ``started`` says when they are ready."""
        await self._backend.open(self)
        self.forward_logs()
        self.feed(on.StartRequested())

    def forward_logs(self) -> None:
        """Have workers that start from now on send what they log, if a hook wants that."""
        if self.observation is not None:
            self.observation.forward_logs(self._backend)

    def abandon(self) -> None:
        """The event loop was closed under the pool: end the workers without it, and give all tasks an outcome."""
        self._broken = PoolClosed("the pool's event loop was closed", hint=CLOSE_HINT)
        try:
            self._backend.abandon()
        finally:
            for handle in list(self._handles.values()):
                with contextlib.suppress(RuntimeError):  # who awaits it is on that loop, and never hears of it
                    self._finish(handle, TaskState.CANCELLED, self._broken)
                if not handle.cancelled():
                    handle.exception()  # the log has it

    def submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        options: TaskOptions,
        names: tuple[str, str],
        *,
        lent: bool = False,
    ) -> TaskHandle[Any]:
        """Queue a call. If its payload takes long to make, the task is in preparation until it is there.

        Args:
            fn: The function.
            args: Its arguments.
            options: How it is to be treated.
            names: What the task is called, and under which name its run time is learned.
            lent: Whether the arguments stay as they are until the task is done.

        Raises:
            PoolClosed: If the pool takes no tasks.
            QueueFull: If there is no room, or no hope of being in time.
            TaskNotPicklable: If the call can't be sent.
            PayloadTooLarge: If it is too large.
        """
        watch = self.observation
        record = None
        if watch is not None and watch.of_tasks:
            record = TaskRecord(names[0], self._clock(), options.timeout, options.priority, options.fair_key)
        try:
            return self._submit(fn, args, options, names, record, lent=lent)
        except PoolError as error:
            if record is not None and watch is not None:
                watch.refused(record, error)
            self.mishaps.call_failed(names[0], error)
            raise

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        options: TaskOptions,
        names: tuple[str, str],
        record: TaskRecord | None,
        *,
        lent: bool,
    ) -> TaskHandle[Any]:
        timeout, (name, learned_as) = options.timeout, names
        self.admit(None if options.is_admitted else timeout, options.fair_key, learned_as)
        if not options.copy:
            require_views(self._backend.capabilities)
        watch = self.observation
        propagated: tuple[PropagatedContext, ...] = (
            () if record is None or watch is None else watch.packing(record, args)
        )
        if self._carrier is not None and (values := self._carrier.pack()) is not None:
            propagated = (values, *propagated)
        if not propagated or watch is None or record is None:
            prepared = self._backend.prepare(fn, args, propagated, lent=lent, copy=options.copy)
        else:
            prepared = self._prepare_watched(fn, args, propagated, watch, lent=lent, copy=options.copy)
        self._last_task = number = self._last_task + 1
        if record is not None and watch is not None:
            record.id = number
            if watch.on_submitted:
                watch.tell(watch.on_submitted, record)
        payload = None if isinstance(prepared, asyncio.Future) else prepared
        handle: TaskHandle[Any] = TaskHandle(self, number, name, payload, options.retry_on, abandon=options.abandon)
        handle._record = record
        self._handles[number] = handle
        retries, priority, fair_key = options.retries, options.priority, options.fair_key
        preparing, firm = payload is None, type(fn) is Chunk  # a map waits before its chunks are let in, not after
        self.feed(on.TaskSubmitted(number, learned_as, priority, timeout, retries, fair_key, preparing, firm))
        if isinstance(prepared, asyncio.Future):
            self._preparing[number] = prepared
            prepared.add_done_callback(lambda prepared: self._prepared(number, prepared))
        return handle

    def _prepare_watched(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...],
        watch: Observation,
        *,
        lent: bool,
        copy: bool,
    ) -> Payload | asyncio.Future[Payload]:
        """Prepare a call with propagated context: if that can't be pickled, it is a hook's mistake, not the call's."""
        try:
            prepared = self._backend.prepare(fn, args, propagated, lent=lent, copy=copy)
            if not isinstance(prepared, asyncio.Future):
                return prepared
        except Exception:
            good = watch.blame(propagated)
            if len(good) == len(propagated):
                raise
        else:  # it is pickled in a thread: look before that finds out
            good = watch.blame(propagated)
            if len(good) == len(propagated):
                return prepared
            prepared.cancel()
        return self._backend.prepare(fn, args, good, lent=lent, copy=copy)

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
        """Take a task back by its number; whether it had no outcome yet. From any thread, as ``TaskHandle.cancel``."""
        handle = self._handles.get(task)
        return handle is not None and handle.cancel()

    def admit(self, timeout: float | None, fair_key: str | None, name: str | None) -> None:
        """Raise what a task would be turned away with now; see ``Scheduler.admit``."""
        refusal = self._broken or self._scheduler.admit(timeout, fair_key, name)
        if refusal is not None:
            raise refusal

    def count_refused(self, calls: int) -> None:
        """Count calls that were refused before they became tasks."""
        self._scheduler.tally.refused += calls

    def cancel(self, handle: TaskHandle[Any]) -> None:
        """The handle was cancelled: drop or break off its task."""
        if handle.id in self._handles:
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
        """Take nothing new, and end when everything is done, or after so many seconds; ``closed`` says when."""
        self.feed(on.DrainRequested(timeout) if timeout > 0 else on.CloseRequested())

    def request_close(self) -> None:
        """End at once: every handle gets its outcome, workers are killed; ``closed`` says when they are gone."""
        self.feed(on.CloseRequested())

    async def release(self) -> None:
        """Have the backend end what is left and release everything."""
        self._alarm.cancel()
        self.mishaps.flush()
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
        kept: on.KeptViews | None = None,
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
            retryable = error is not None and handle._is_retried_on(error)
        self.feed(on.TaskReturned(worker, task, error is None, run_s, retryable, memory, kept))

    def progressed(self, worker: int, task: int, value: object) -> None:
        """A running task said how far it is."""
        handle = self._handles.get(task)
        if handle is not None:
            handle._progress = value

    def exited(self, event: on.WorkerExited) -> None:
        """A worker is gone."""
        if event.start_error is None and self.state in (PoolState.STARTING, PoolState.RUNNING):
            logger.debug("worker %d exited: %s", event.worker, event)
        self.feed(event)

    def forked(self) -> None:
        """Refuse every call, and tell nobody of anything: this is a forked copy of the pool's process."""
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
                    if self.line.waiting:
                        self.line.serve()
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
        self.line.dismiss()
        for handle in list(self._handles.values()):
            try:
                self._finish(handle, TaskState.LOST, self._broken)
            except Exception as another:
                end_anyway(handle, another)
        for future in (self.started, self.closed, self._recycled):
            _resolve(future, self._broken)

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
            is_told = False
            if command.details is not None:
                error = command.error or handle._error
                is_told = self.mishaps.settled(handle._name, command.details, command.outcome, error, self._now)
            self._finish(handle, command.outcome, command.error)
            if is_told and not handle.cancelled():
                handle.exception()  # it is in the log: asyncio need not tell of it again if nobody awaits it
        except Exception as failure:
            end_anyway(handle, failure)

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
    """Let those who wait go on; a second time, or if nobody waits, this does nothing."""
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # mark as retrieved: whoever awaits it still gets it
