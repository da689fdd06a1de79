"""Collect calls of one function and run them as one task: what ``@pool.batch`` makes of a function on lists.

Theory of operation
    A call waits in the batcher, outside of the pool's queue, until its batch leaves. Whether one can leave is checked
    once at the end of a turn of the event loop, so that calls made in the same turn go together.

    A batch leaves at once if a worker is free and no other batch is under way. Else calls collect until that one comes
    back, until there are ``max_size`` of them, or until ``max_wait`` has passed since the first came; then the batch
    enters the pool. But at most two batches for each worker are in the pool at a time, one that runs and
    one that is next. So under load batches grow instead of the queue, and come back to size one when the load is gone
    (docs/decisions/0011 has the figures).

    A batch belongs to all of its callers and to none: it is sent outside of any request's context. A caller that goes
    away takes its item out or, if that has left, gives up its answer; when the last one goes, the batch is cancelled.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import OrderedDict, deque
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from lifepool._transfer.exceptions import bearable, copy_cause, decode_error
from lifepool._usercode.interrupts import passed_on
from lifepool.errors import InternalError, PayloadTooLarge, PoolError, QueueFull, TaskNotPicklable, TaskTimeout

if TYPE_CHECKING:
    from lifepool._engine.engine import Engine
    from lifepool._engine.handle import TaskHandle
    from lifepool._transfer.grouped import GroupResult

T = TypeVar("T")

logger = logging.getLogger("lifepool")

#: Batches in the pool for each worker: one runs, one waits behind it so that the worker does not wait for us.
BATCHES_PER_WORKER = 2
#: The least advice to a refused caller, in seconds.
_LEAST_RETRY_S = 0.05
#: The least time that a batch is given, in seconds; callers that have less left are timed out here.
_LEAST_TIMEOUT_S = 1e-3


class Submit(Protocol):
    """Put a batch into the pool."""

    def __call__(self, items: list[Any], *, timeout: float) -> TaskHandle[GroupResult]:
        """Submit the batch's function with these items and so many seconds."""


class BatchPlan(NamedTuple):
    """How calls are collected.

    Attributes:
        name: The function's.
        max_size: Items in one batch at most.
        max_wait: Seconds that a call waits for company at most, while the pool has room for its batch.
        timeout: Seconds that a call may take; ``inf`` for no limit.
        max_waiting: Calls that may wait for their batch to leave.
        window: Batches in the pool at most.
    """

    name: str
    max_size: int
    max_wait: float
    timeout: float
    max_waiting: int
    window: int


class BatchedCall(asyncio.Future[T]):
    """One caller's item and, when it is done, its result."""

    __slots__ = ("_batcher", "batch", "deadline", "item", "since")

    def __init__(self, batcher: Batcher, item: object, since: float, deadline: float) -> None:
        super().__init__(loop=batcher.loop)
        self._batcher = batcher
        self.item = item
        self.since = since
        self.deadline = deadline
        self.batch: _Batch | None = None  # None until it has left

    def abort(self, error: PoolError) -> None:
        """Take it out, or give up its answer, and raise ``error`` where it is awaited."""
        if not self.done():
            self.set_exception(error)
            self.exception()  # whoever awaits it gets it; if nobody does, nothing is lost
            self._batcher.dropped(self)

    def cancel(self, msg: Any | None = None) -> bool:
        """Take it out, or give up its answer. Return whether it was not done yet."""
        if not super().cancel(msg):
            return False
        self._batcher.dropped(self)
        return True


class _Batch:
    """Calls that have left together."""

    __slots__ = ("calls", "handle", "wanted")

    def __init__(self, handle: TaskHandle[GroupResult], calls: list[BatchedCall[Any]]) -> None:
        self.handle = handle
        self.calls = calls
        self.wanted = len(calls)  # calls that still want their answer


class Batcher:
    """Collect calls and hand out answers, for one life of a pool.

    Args:
        engine: The pool's.
        submit: Puts a batch into the pool.
        plan: How calls are collected.
    """

    def __init__(self, engine: Engine, submit: Submit, plan: BatchPlan) -> None:
        self.engine = engine
        self.loop = engine.loop
        self._submit = submit
        self._plan = plan
        self._waiting: OrderedDict[BatchedCall[Any], None] = OrderedDict()
        self._alone: deque[BatchedCall[Any]] = deque()  # their batch could not be sent as a whole
        self._open: OrderedDict[BatchedCall[Any], None] = OrderedDict()  # have a deadline: the earliest comes first
        self._under_way = 0
        self._check_planned = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    # -- for callers ----------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Return how many calls have not left."""
        return len(self._waiting) + sum(not call.done() for call in tuple(self._alone))  # another thread may ask

    def add(self, item: object) -> BatchedCall[Any]:
        """Admit a call.

        Raises:
            PoolClosed: If the pool takes no tasks.
            QueueFull: If too many calls or tasks wait.
            WorkerStartError: If no worker comes up.
        """
        plan = self._plan
        self.engine.admit(None if plan.timeout == float("inf") else plan.timeout, None, plan.name)
        now = self.loop.time()
        if len(self._waiting) >= plan.max_waiting:
            # In half the time that the first has waited, half of those will have left.
            oldest = now - next(iter(self._waiting)).since
            reason = f"{len(self._waiting)} calls of {plan.name} wait already"
            self.engine.count_refused(1)
            raise QueueFull(reason, retry_after=max(_LEAST_RETRY_S, oldest / 2))
        call: BatchedCall[Any] = BatchedCall(self, item, now, now + plan.timeout)
        self._waiting[call] = None
        if call.deadline != float("inf"):
            self._open[call] = None
        self._plan_check()
        return call

    def dropped(self, call: BatchedCall[Any]) -> None:
        """Forget a call whose answer nobody wants any more."""
        self._open.pop(call, None)
        call.item = None
        batch = call.batch
        if batch is None:
            self._waiting.pop(call, None)
            return
        batch.wanted -= 1
        if not batch.wanted:
            batch.handle.cancel()

    def flush(self) -> None:
        """Send all that waits now, even if all workers are busy."""
        while self._waiting or self._alone:
            self._send(self._take())

    # -- when -----------------------------------------------------------------------------------------------------

    def _plan_check(self) -> None:
        if not self._check_planned:
            self._check_planned = True
            self.loop.call_soon(self._check)

    def _check(self) -> None:
        """Send what is to leave now, and plan the next check in time."""
        self._check_planned = False
        try:
            now = self.loop.time()
            self._time_out(now)
            while self._under_way < self._plan.window and self._is_due(now):
                self._send(self._take())
            self._set_timer()
        except Exception as error:
            self._end_anyway([*self._alone, *self._waiting], error)
            self._alone.clear()
            self._waiting.clear()

    def _is_due(self, now: float) -> bool:
        if self._alone:
            return True
        if not self._waiting:
            return False
        return (
            len(self._waiting) >= self._plan.max_size
            or now >= next(iter(self._waiting)).since + self._plan.max_wait
            or (not self._under_way and self.engine.queries.has_free_worker)
        )

    def _time_out(self, now: float) -> None:
        while self._open:
            call = next(iter(self._open))
            if call.deadline > now:
                return
            error = TaskTimeout(self._plan.timeout, started=call.batch is not None)
            self.engine.failures.call_failed(self._plan.name, error)
            call.abort(error)

    def _set_timer(self) -> None:
        """Set the one timer for all calls; if it is early, that costs a check and nothing else."""
        when = float("inf")
        if self._waiting and self._under_way < self._plan.window:
            when = next(iter(self._waiting)).since + self._plan.max_wait
        if self._open:
            when = min(when, next(iter(self._open)).deadline)
        if when >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._on_timer)
        self._timer_at = when

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._check()

    # -- out ------------------------------------------------------------------------------------------------------

    def _take(self) -> list[BatchedCall[Any]]:
        if self._alone:
            return [self._alone.popleft()]
        return [self._waiting.popitem(last=False)[0] for _ in range(min(len(self._waiting), self._plan.max_size))]

    def _send(self, calls: list[BatchedCall[Any]]) -> None:
        calls = [call for call in calls if not call.done()]
        if not calls:
            return
        # The youngest has the most time left, and the others are timed out by us.
        timeout = max(_LEAST_TIMEOUT_S, calls[-1].deadline - self.loop.time())
        try:
            # In a context of its own: it is nobody's request.
            handle = Context().run(self._submit, [call.item for call in calls], timeout=timeout)
        except BaseException as error:
            passed_on(error, self.loop)
            self._failed(calls, bearable(error))
            return
        batch = _Batch(handle, calls)
        for call in calls:
            call.batch = batch
        self._under_way += 1
        handle.add_done_callback(lambda handle: self._returned(batch, handle))

    # -- in -------------------------------------------------------------------------------------------------------

    def _returned(self, batch: _Batch, handle: asyncio.Future[GroupResult]) -> None:
        self._under_way -= 1
        try:
            if handle.cancelled():
                for call in batch.calls:
                    call.cancel()
            elif (error := handle.exception()) is not None:
                self._failed(batch.calls, error)
            else:
                self._hand_out(batch.calls, handle.result())
        except Exception as failure:
            self._end_anyway(batch.calls, failure)
        self._check()

    def _end_anyway(self, calls: list[BatchedCall[Any]], error: Exception) -> None:
        """Give an outcome, though something of ours failed: nobody is to wait for ever."""
        logger.error("the outcomes of a batch could not be given", exc_info=error)
        for call in calls:
            if not call.done():
                self._done_with(call)
                failure = InternalError(f"the outcome of a batched call could not be given: {error!r}")
                failure.__cause__ = error
                call.set_exception(failure)

    def _hand_out(self, calls: list[BatchedCall[Any]], result: GroupResult) -> None:
        for index, call in enumerate(calls):
            if call.done():
                continue
            self._done_with(call)
            # Decoded for each anew: an exception that two raise would have the tracebacks of both.
            encoded = result.errors.get(index) if result.failure is None else result.failure
            if encoded is None:
                call.set_result(result.values[index])
            else:
                call.set_exception(decode_error(encoded))

    def _failed(self, calls: list[BatchedCall[Any]], error: BaseException) -> None:
        """Give the calls of a batch that failed as a whole their errors, or another try, each by itself."""
        wanted = [call for call in calls if not call.done()]
        if len(calls) > 1 and issubclass(type(error), (TaskNotPicklable, PayloadTooLarge)):
            # One item or result is the cause, or they are too large together: each goes by itself, and finds out.
            for call in wanted:
                call.batch = None
            self._alone.extend(wanted)
            self._plan_check()
            return
        if isinstance(error, QueueFull):
            # The batch was counted when it was refused: as one, but each is a caller.
            self.engine.count_refused(max(0, len(wanted) - 1))
        for call in wanted:
            self._done_with(call)
            call.set_exception(self._own(error))

    def _done_with(self, call: BatchedCall[Any]) -> None:
        self._open.pop(call, None)
        call.item = None

    def _own(self, error: BaseException) -> BaseException:
        """Return the error for one caller: a copy, in words that fit one item."""
        if type(error) is TaskTimeout:
            return error._of(self._plan.timeout)
        own = _copy(error)
        if isinstance(own, TaskNotPicklable):
            for of_batch, of_item in (("args[0][0]", "item"), ("result[0][0]", "result")):
                own.args = (str(own.args[0]).replace(of_batch, of_item, 1),)
                own.path = own.path.replace(of_batch, of_item, 1)
        return own


def _copy(error: BaseException) -> BaseException:
    try:
        twin = copy.copy(error)
    except BaseException:  # somebody's own class, whose constructor takes other arguments
        return error
    if type(twin) is not type(error):
        return error
    copy_cause(error, twin)
    return twin


def check_plan(max_size: object, max_wait: object) -> None:
    """Refuse what makes no sense.

    Raises:
        ValueError: Naming the argument.
    """
    if not isinstance(max_size, int) or isinstance(max_size, bool) or max_size < 1:
        raise ValueError(f"max_size={max_size!r}: expected a whole number >= 1")
    if not isinstance(max_wait, (int, float)) or not max_wait >= 0:
        raise ValueError(f"max_wait={max_wait!r}: expected seconds >= 0")
