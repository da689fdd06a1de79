"""Telling hooks what happens, so that none can hurt a task and none that does not listen costs anything."""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from lifepool._core.states import TASK_COMPLETED, TASK_FAILED
from lifepool.errors import BackendUnsupported
from lifepool.hooks import Hook, WorkerExit
from lifepool.interrupts import passed_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.events import WorkerExited
    from lifepool._core.states import TaskState
    from lifepool.backends.base import Backend
    from lifepool.errors import PoolError
    from lifepool.hooks import Luggage, TaskRecord
    from lifepool.life import PoolLife

logger = logging.getLogger("lifepool")

#: Seconds, and tasks, after which ``tasks_settled`` is told. What a hook does costs half if its code is in the CPU's
#: caches, and of 256 tasks it takes the loop some 0.2 ms.
BATCH_S, BATCH_SIZE = 0.05, 256

_Calls = tuple["Callable[..., Any]", ...]


class Observation:
    """The hooks of a pool; each is called only by the methods that it overrides.

    Args:
        pool: Who is watched.

    Attributes:
        of_tasks: Whether anybody wants to hear of tasks; if not, no records are made.
        on_submitted: Whom to tell that a task was let in; so that nobody is not asked.
        on_sent: Whom to tell that it was given to a worker.
    """

    def __init__(self, pool: PoolLife) -> None:
        self.hooks: list[Hook] = []
        self._pool = pool
        self._batch: list[TaskRecord] = []  # settled, and not told of yet
        self._timer: asyncio.TimerHandle | None = None  # tells of them
        self._sort()

    def _sort(self) -> None:
        self._called = self._listening("task_called")
        self._luggage = self._listening("luggage")
        self.on_submitted = self._listening("task_submitted")
        self._refused = self._listening("task_refused")
        self.on_sent = self._listening("task_sent")
        self._settled = self._listening("task_settled")
        self._settled_together = self._listening("tasks_settled")
        self._ready = self._listening("worker_ready")
        self._exited = self._listening("worker_exited")
        self._logged = self._listening("worker_logged")
        before = (self._called, self._luggage, self.on_submitted, self._refused)
        self.of_tasks = any((*before, self.on_sent, self._settled, self._settled_together))

    def _listening(self, method: str) -> _Calls:
        """The hooks that override this method, as bound methods."""
        base = getattr(Hook, method)
        return tuple(getattr(hook, method) for hook in self.hooks if getattr(type(hook), method, base) is not base)

    def add(self, hook: Hook) -> None:
        """One more watches, from now on."""
        self.flush()
        self.hooks.append(hook)
        self._sort()

    def remove(self, hook: Hook) -> None:
        """One less watches."""
        self.flush()
        self.hooks.remove(hook)
        self._sort()

    def tell(self, calls: _Calls, subject: object) -> None:
        """Call these hooks; one that raises, whatever it is, is called no more."""
        for call in calls:
            try:
                call(subject)
            except BaseException as error:
                self._raised(call, error)

    def _tell_more(self, calls: _Calls, subject: object, more: object) -> None:
        """The same for those that hear of two things; by itself, because ``*args`` cost each task."""
        for call in calls:
            try:
                call(subject, more)
            except BaseException as error:
                self._raised(call, error)

    def _raised(self, call: Callable[..., Any], error: BaseException) -> None:
        if not passed_on(error, asyncio.get_running_loop()):  # a Ctrl-C that struck just then is not the hook's
            self._disable(call)

    def _disable(self, call: Callable[..., Any]) -> None:
        hook = call.__self__  # type: ignore[attr-defined]
        logger.exception("the hook %r raised; it is not called any more", hook)
        if hook in self.hooks:
            self.remove(hook)
            self.pool_closed(self._pool, hook)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def packing(self, record: TaskRecord, args: tuple[Any, ...]) -> tuple[Luggage, ...]:
        """The task is about to be pickled with these arguments; what hooks want to go along with it."""
        record.context = copy_context()
        if self._called:
            self._tell_more(self._called, record, args)
        found: tuple[Luggage, ...] = ()
        for call in self._luggage:
            try:
                item = call(record)
            except BaseException as error:
                self._raised(call, error)
            else:
                if item is not None:
                    found += (item,)
        return found

    def refused(self, record: TaskRecord, error: PoolError) -> None:
        """The task was turned away."""
        if self._refused:
            self._tell_more(self._refused, record, error)

    def settled(self, record: TaskRecord, outcome: TaskState, error: BaseException | None, now: float) -> None:
        """The task has its outcome."""
        record.finished = now
        record.outcome = outcome._value_  # the public one costs a call
        if error is not None:
            record.error = error
        if record.run_s is not None and (outcome is TASK_COMPLETED or outcome is TASK_FAILED):
            record.wait_s = max(0.0, now - record.run_s - record.submitted)
        else:
            record.wait_s = (now if record.sent is None else record.sent) - record.submitted
        if self._settled:
            self.tell(self._settled, record)
        if self._settled_together:
            self._batch.append(record)
            if len(self._batch) == 1:
                self._timer = asyncio.get_running_loop().call_later(BATCH_S, self.flush)
            elif len(self._batch) == BATCH_SIZE:
                self.flush()

    def flush(self) -> None:
        """Tell of the tasks that were settled since the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._batch:
            batch, self._batch = self._batch, []
            self.tell(self._settled_together, batch)

    # -- workers and the pool -------------------------------------------------------------------------------------

    def worker_ready(self, worker: int) -> None:
        """A worker can take tasks."""
        self.tell(self._ready, worker)

    def worker_exited(self, event: WorkerExited, reason: str, completed: int) -> None:
        """A worker is gone."""
        if self._exited:
            exit = WorkerExit(
                worker=event.worker,
                reason=reason,
                exitcode=event.exitcode,
                signal=event.signal,
                completed=completed,
                start_error=event.start_error,
            )
            self.tell(self._exited, exit)

    def forward_logs(self, backend: Backend) -> None:
        """Have workers that start from now on send what they log, if a hook wants that.

        Raises:
            BackendUnsupported: If the backend can't.
        """
        if not self._logged:
            return
        forward = getattr(backend, "forward_logs", None)
        if forward is None:
            raise BackendUnsupported(
                "this backend does not forward the logs of its workers",
                capability="logs",
                hint="use backend='local', or remove the hook that wants them",
            )
        hook: Hook = self._logged[0].__self__  # type: ignore[attr-defined]
        forward(self.worker_logged, hook.logs_per_second, hook.log_level)

    def worker_logged(self, log: dict[str, Any]) -> None:
        """A worker logged something."""
        self.flush()  # so that the log is told in the order of events
        self.tell(self._logged, log)

    def pool_started(self, pool: PoolLife, hook: Hook | None = None) -> None:
        """The pool is up: tell all hooks, or one that came later."""
        for each in [hook] if hook is not None else list(self.hooks):
            self.tell((each.pool_started,), pool)

    def pool_closed(self, pool: PoolLife, hook: Hook | None = None) -> None:
        """The pool has ended: tell all hooks; or one that was removed before that."""
        self.flush()
        for each in [hook] if hook is not None else list(self.hooks):
            self.tell((each.pool_closed,), pool)
