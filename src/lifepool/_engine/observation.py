"""Telling hooks what happens, so that none can hurt a task and none that does not listen costs anything."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lifepool.errors import BackendUnsupported
from lifepool.hooks import Hook, Luggage, TaskRecord, WorkerExit

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.events import WorkerExited
    from lifepool._core.states import TaskState
    from lifepool._engine.options import TaskOptions
    from lifepool.backends.base import Backend
    from lifepool.errors import PoolError
    from lifepool.life import PoolLife

logger = logging.getLogger("lifepool")

_Calls = tuple["Callable[..., Any]", ...]


class Observation:
    """The hooks of a pool; each is called only by the methods that it overrides.

    Args:
        pool: Who is watched.

    Attributes:
        of_tasks: Whether anybody wants to hear of tasks; if not, no records are made.
    """

    def __init__(self, pool: PoolLife) -> None:
        self.hooks: list[Hook] = []
        self._pool = pool
        self._sort()

    def _sort(self) -> None:
        self._submitted = self._listening("task_submitted")
        self._refused = self._listening("task_refused")
        self._called = self._listening("task_called")
        self._sent = self._listening("task_sent")
        self._settled = self._listening("task_settled")
        self._ready = self._listening("worker_ready")
        self._exited = self._listening("worker_exited")
        self._logged = self._listening("worker_logged")
        self._luggage = self._listening("luggage")
        of_tasks = (self._called, self._submitted, self._refused, self._sent, self._settled, self._luggage)
        self.of_tasks = any(of_tasks)

    def _listening(self, method: str) -> _Calls:
        """The hooks that override this method, as bound methods."""
        base = getattr(Hook, method)
        return tuple(getattr(hook, method) for hook in self.hooks if getattr(type(hook), method, base) is not base)

    def add(self, hook: Hook) -> None:
        """One more watches, from now on."""
        self.hooks.append(hook)
        self._sort()

    def remove(self, hook: Hook) -> None:
        """One less watches."""
        self.hooks.remove(hook)
        self._sort()

    def _tell(self, calls: _Calls, subject: object, *more: object) -> None:
        for call in calls:
            try:
                call(subject, *more)
            except Exception:
                self._disable(call)

    def _disable(self, call: Callable[..., Any]) -> None:
        hook = call.__self__  # type: ignore[attr-defined]
        logger.exception("the hook %r raised; it is not called any more", hook)
        if hook in self.hooks:
            self.remove(hook)
            self.pool_closed(self._pool, hook)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def record(self, name: str, options: TaskOptions, now: float) -> TaskRecord:
        """A record of a task that knocks at the door."""
        return TaskRecord(name, now, options.timeout, options.priority, options.fair_key)

    def called(self, record: TaskRecord, args: tuple[Any, ...]) -> None:
        """The task has these arguments."""
        if self._called:
            self._tell(self._called, record, args)

    def luggage(self, record: TaskRecord) -> list[Luggage]:
        """What hooks want to go along with the task."""
        found: list[Luggage] = []
        for call in self._luggage:
            try:
                item = call(record)
            except Exception:
                self._disable(call)
            else:
                if item is not None:
                    found.append(item)
        return found

    def submitted(self, task: int, record: TaskRecord) -> None:
        """The task was let in."""
        record.id = task
        if self._submitted:
            self._tell(self._submitted, record)

    def refused(self, record: TaskRecord, error: PoolError) -> None:
        """The task was turned away."""
        if self._refused:
            self._tell(self._refused, record, error)

    def sent(self, record: TaskRecord, worker: int, attempts: int, size: int, now: float) -> None:
        """The task was given to a worker."""
        record.worker = worker
        record.attempts = attempts
        record.sent = now
        record.bytes_sent += size
        if self._sent:
            self._tell(self._sent, record)

    def returned(self, record: TaskRecord, run_s: float, size: int, now: float) -> None:
        """A worker answered the task."""
        record.run_s = run_s
        record.wait_s = max(0.0, now - run_s - record.submitted)
        record.bytes_received += size

    def settled(self, record: TaskRecord, outcome: TaskState, error: BaseException | None, now: float) -> None:
        """The task has its outcome."""
        record.finished = now
        record.outcome = outcome._value_  # the public one costs a call
        record.error = error
        if record.wait_s is None:
            record.wait_s = (now if record.sent is None else record.sent) - record.submitted
        if self._settled:
            self._tell(self._settled, record)

    # -- workers and the pool -------------------------------------------------------------------------------------

    def worker_ready(self, worker: int) -> None:
        """A worker can take tasks."""
        self._tell(self._ready, worker)

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
            self._tell(self._exited, exit)

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
        self._tell(self._logged, log)

    def pool_started(self, pool: PoolLife, hook: Hook | None = None) -> None:
        """The pool is up: tell all hooks, or one that came later."""
        for each in [hook] if hook is not None else list(self.hooks):
            self._tell((each.pool_started,), pool)

    def pool_closed(self, pool: PoolLife, hook: Hook | None = None) -> None:
        """The pool has ended: tell all hooks; or one that was removed before that."""
        for each in [hook] if hook is not None else list(self.hooks):
            self._tell((each.pool_closed,), pool)
