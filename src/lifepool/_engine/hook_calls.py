"""Call the hooks of a pool, so that no hook can hurt a task, and a method that no hook overrides costs nothing."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from lifepool._core.states import TASK_COMPLETED, TASK_FAILED
from lifepool._usercode.interrupts import passed_on
from lifepool.backends.base import require_logs
from lifepool.hooks import Hook, WorkerExit

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.events import WorkerExited
    from lifepool._core.states import TaskState
    from lifepool._transfer.context import PropagatedContext
    from lifepool.backends.base import Backend
    from lifepool.errors import PoolError
    from lifepool.hooks import TaskRecord, WatchedPool

logger = logging.getLogger("lifepool")

#: Seconds, and tasks, after which ``tasks_settled`` is called. What a hook does costs half if its code is in the CPU's
#: caches, and of 256 tasks it takes the loop some 0.2 ms.
BATCH_S, BATCH_SIZE = 0.05, 256


class _Watcher:
    """A hook that watches.

    Attributes:
        hook: It.
        is_active: False from the moment that it is removed or disabled: then it is not called any more, also by
            a loop over a list that still has it.
        was_started: Whether ``pool_started`` was called, so that ``pool_closed`` must be.
    """

    __slots__ = ("hook", "is_active", "was_started")

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.is_active = True
        self.was_started = False


#: What a hook may override, besides ``pool_started`` and ``pool_closed``.
_METHODS = (
    "task_called", "propagate_context", "task_submitted", "task_refused", "task_sent", "task_settled", "tasks_settled",
    "worker_ready", "worker_exited", "worker_logged",
)  # fmt: skip

_Calls = tuple[tuple[_Watcher, "Callable[..., Any]"], ...]


def _is_meant_for_all(error: BaseException) -> bool:
    """Return whether it is a Ctrl-C that struck while a hook ran; the event loop raises it then."""
    try:
        return passed_on(error, asyncio.get_running_loop())
    except RuntimeError:  # no loop runs here
        return False


class Observation:
    """The hooks of a pool; each is called only by the methods that it overrides.

    Args:
        pool: Who is watched.

    Attributes:
        of_tasks: Whether a hook overrides a method about tasks; if not, no records are made.
        on_submitted: What to call when a task was admitted; empty if no hook wants that.
        on_sent: What to call when a task was given to a worker.
    """

    def __init__(self, pool: WatchedPool) -> None:
        self._watchers: list[_Watcher] = []
        self._pool = pool
        self._batch: list[TaskRecord] = []  # settled, and not reported yet
        self._timer: asyncio.TimerHandle | None = None  # reports them
        self._packed: list[
            tuple[_Watcher, PropagatedContext]
        ] = []  # of the task that is being submitted: whose is which
        self._sort()

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """Return the hooks that watch."""
        return tuple(watcher.hook for watcher in self._watchers)

    def _sort(self) -> None:
        self._called = self._listening("task_called")
        self._propagating = self._listening("propagate_context")
        self.on_submitted: _Calls = self._listening("task_submitted")
        self._refused = self._listening("task_refused")
        self.on_sent: _Calls = self._listening("task_sent")
        self._settled = self._listening("task_settled")
        self._settled_together = self._listening("tasks_settled")
        self._ready = self._listening("worker_ready")
        self._exited = self._listening("worker_exited")
        self._logged = self._listening("worker_logged")
        before = (self._called, self._propagating, self.on_submitted, self._refused)
        self.of_tasks: bool = any((*before, self.on_sent, self._settled, self._settled_together))

    def _listening(self, method: str) -> _Calls:
        """List the hooks that override this method, with it as a bound method."""
        return tuple((each, getattr(each.hook, method)) for each in self._watchers if _overrides(each.hook, method))

    def add(self, hook: Hook) -> bool:
        """Add a hook, from now on; return False if it watches already.

        Raises:
            TypeError: If one of its methods is a coroutine function, which nobody would await.
        """
        if any(each.hook is hook for each in self._watchers):
            return False
        _check(hook)
        self.flush()
        self._watchers = [*self._watchers, _Watcher(hook)]
        self._sort()
        return True

    def remove(self, hook: Hook) -> bool:
        """Remove a hook, after it was called for all that happened before; return False if it does not watch."""
        if not any(each.hook is hook for each in self._watchers):
            return False
        self.flush()
        for watcher in self._watchers:
            if watcher.hook is hook:  # else it raised just now, and is gone already
                self._take_out(watcher)
        return True

    def notify(self, calls: _Calls, subject: object) -> None:
        """Call these hooks; disable one that raises."""
        for watcher, call in calls:
            if watcher.is_active:
                try:
                    call(subject)
                except BaseException as error:
                    self._disable(watcher, error)

    def _notify_with(self, calls: _Calls, subject: object, more: object) -> None:
        """Call these hooks with two arguments. A method of its own, because ``*args`` would cost time for each task."""
        for watcher, call in calls:
            if watcher.is_active:
                try:
                    call(subject, more)
                except BaseException as error:
                    self._disable(watcher, error)

    def _disable(self, watcher: _Watcher, error: BaseException) -> None:
        """Disable a hook that raised, whatever it was: what would end a program is a hook's mistake here, too.

        A hook that raises while it is being removed is not disabled a second time.
        """
        if _is_meant_for_all(error):
            return
        if not watcher.is_active:
            return
        logger.error("the hook %s raised; it is not called any more", _shown(watcher.hook), exc_info=error)
        self._take_out(watcher)

    def _take_out(self, watcher: _Watcher) -> None:
        watcher.is_active = False
        self._watchers = [each for each in self._watchers if each is not watcher]
        self._sort()
        self._notify_end(watcher)

    def _notify_end(self, watcher: _Watcher) -> None:
        """Call a hook's ``pool_closed``, once."""
        if not watcher.was_started:
            return
        watcher.was_started = False
        try:
            watcher.hook.pool_closed(self._pool)
        except BaseException as error:
            if watcher.is_active:
                self._disable(watcher, error)
            else:
                logger.debug("the hook %s raised in its pool_closed", _shown(watcher.hook), exc_info=error)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def propagated_with(self, record: TaskRecord, args: tuple[Any, ...]) -> tuple[PropagatedContext, ...]:
        """Return what hooks propagate with a task that is about to be pickled, with these arguments."""
        record.context = copy_context()
        if self._called:
            self._notify_with(self._called, record, args)
        packed = []
        for watcher, call in self._propagating:
            if watcher.is_active:
                try:
                    item = call(record)
                except BaseException as error:
                    self._disable(watcher, error)
                else:
                    if item is not None:
                        packed.append((watcher, item))
        self._packed = packed
        return tuple(item for _, item in packed)

    def without_unpicklable(self, propagated: tuple[PropagatedContext, ...]) -> tuple[PropagatedContext, ...]:
        """Disable the hooks whose context is why the last task can't be pickled.

        Returns:
            The propagated context without theirs.
        """
        bad: list[PropagatedContext] = []
        for watcher, item in self._packed:
            try:
                pickle.dumps(item)
            except BaseException as error:
                bad.append(item)
                self._disable(watcher, error)
        return tuple(item for item in propagated if not any(item is each for each in bad))

    def refused(self, record: TaskRecord, error: PoolError) -> None:
        """Report that a task was refused."""
        if self._refused:
            self._notify_with(self._refused, record, error)

    def settled(self, record: TaskRecord, outcome: TaskState, error: BaseException | None, now: float) -> None:
        """Report that a task has its outcome."""
        record.finished = now
        record.outcome = outcome._value_  # the public one costs a call
        if error is not None:
            record.error = error
        if record.run_s is not None and (outcome is TASK_COMPLETED or outcome is TASK_FAILED):
            record.wait_s = max(0.0, now - record.run_s - record.submitted)
        else:
            record.wait_s = (now if record.sent is None else record.sent) - record.submitted
        if self._settled:
            self.notify(self._settled, record)
        if self._settled_together:
            self._batch.append(record)
            if len(self._batch) == 1:
                self._timer = asyncio.get_running_loop().call_later(BATCH_S, self.flush)
            elif len(self._batch) == BATCH_SIZE:
                self.flush()

    def flush(self) -> None:
        """Report the tasks that were settled since the last call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._batch:
            batch, self._batch = self._batch, []
            self.notify(self._settled_together, batch)

    # -- workers and the pool -------------------------------------------------------------------------------------

    def worker_ready(self, worker: int) -> None:
        """Report that a worker can take tasks."""
        self.notify(self._ready, worker)

    def worker_exited(self, event: WorkerExited, reason: str, completed: int) -> None:
        """Report that a worker is gone."""
        if self._exited:
            exit = WorkerExit(
                worker=event.worker,
                reason=reason,
                exitcode=event.exitcode,
                signal=event.signal,
                completed=completed,
                start_error=event.start_error,
            )
            self.notify(self._exited, exit)

    def forward_logs(self, backend: Backend) -> None:
        """Have workers that start from now on send what they log, if a hook wants that.

        Raises:
            BackendUnsupported: If the backend can't.
        """
        if not self._logged:
            return
        require_logs(backend.capabilities)
        hook = self._logged[0][0].hook
        backend.forward_logs(self.worker_logged, hook.logs_per_second, hook.log_level)

    def worker_logged(self, log: dict[str, Any]) -> None:
        """Report what a worker logged."""
        self.flush()  # so that hooks see the log in the order of events
        self.notify(self._logged, log)

    def pool_started(self, hook: Hook | None = None) -> None:
        """Report that the pool is up, to all hooks or to one that came later; to each of them once."""
        for watcher in self._watchers:
            if watcher.is_active and not watcher.was_started and (hook is None or hook is watcher.hook):
                watcher.was_started = True
                try:
                    watcher.hook.pool_started(self._pool)
                except BaseException as error:
                    self._disable(watcher, error)

    def pool_closed(self) -> None:
        """Report the end of the pool to all hooks that heard of its start."""
        self.flush()
        for watcher in self._watchers:
            self._notify_end(watcher)


def _overrides(hook: Hook, method: str) -> bool:
    base = getattr(Hook, method)
    return getattr(type(hook), method, base) is not base


def _check(hook: Hook) -> None:
    for method in ("pool_started", "pool_closed", *_METHODS):
        if inspect.iscoroutinefunction(getattr(hook, method, None)):
            raise TypeError(
                f"{type(hook).__qualname__}.{method} is async, but hooks are called on the event loop and not awaited: "
                "make it a plain function, which may start an asyncio.Task"
            )


def _shown(hook: Hook) -> str:
    try:
        return repr(hook)
    except Exception:  # it raises over everything
        return object.__repr__(hook)
