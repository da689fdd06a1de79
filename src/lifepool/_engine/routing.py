"""The engine of a pool with two backends: this machine and a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core.routing import RoutedScheduler
from lifepool._engine.engine import Engine
from lifepool._engine.routed_queries import RoutedQueries
from lifepool._engine.submission import Place, Submissions
from lifepool.errors import (
    BackendUnavailable,
    BackendUnsupported,
    PayloadTooLarge,
    PoolError,
    QueueFull,
    TaskNotPicklable,
    WorkerStartError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.policy import Limits
    from lifepool._engine.deciding import DecidingScheduler
    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.options import TaskOptions
    from lifepool._engine.queries import Queries
    from lifepool._transfer.context import Carrier
    from lifepool.backends.routed import RoutedBackend
    from lifepool.hooks import TaskRecord

#: What a task is refused with here, and tried at the cluster after.
_FULL_HERE = (QueueFull, WorkerStartError)
#: What the cluster can't take while it is lost; in overflow also what it can't take at all: that stays here.
_LOST = BackendUnavailable
_NOT_FOR_IT = (BackendUnavailable, BackendUnsupported, PayloadTooLarge, QueueFull, TaskNotPicklable)


class RoutedEngine(Engine):
    """Run a routed scheduler on a routed backend.

    Args:
        backend: Both backends.
        limits: The settings for this machine.
        remote: The settings for the cluster.
        target_wait: Seconds that a task may have to wait here before the cluster is preferred.
        carrier: As for ``Engine``.
        **options: Those of ``Engine``.
    """

    def __init__(
        self,
        backend: RoutedBackend,
        limits: Limits,
        remote: Limits,
        *,
        target_wait: float,
        carrier: Carrier | None = None,
        **options: Any,
    ) -> None:
        self._remote_limits = remote
        self._target_wait = target_wait
        self._both = backend
        super().__init__(backend, limits, carrier=carrier, **options)
        self.submissions: Submissions = RoutedSubmissions(self, backend, carrier, self._routed)
        self._preparing = self.submissions.preparing
        self._perform[do.PreparePayload] = self._prepare_here

    def _make_scheduler(self, limits: Limits, random: Callable[[], float]) -> tuple[DecidingScheduler, Queries]:
        self._routed = scheduler = RoutedScheduler(
            limits,
            self._remote_limits,
            prefers_remote=self._both.prefers_remote,
            target_wait=self._target_wait,
            random=random,
        )
        return scheduler, RoutedQueries(scheduler, self._both, self.handles, self._traffic, self.clock)

    def _prepare_here(self, command: do.PreparePayload) -> None:
        """Make the payload of a task that has moved; what can't be made fails the task alone."""
        task = command.task
        handle = self.handles.get(task)
        if handle is None:
            return
        call: Any = handle._payload
        try:
            prepared: Any = self._both.prepare_here(call)
        except Exception as error:
            handle._error = error
            self.feed(on.TaskPrepared(task, False))
            return
        if hasattr(prepared, "add_done_callback"):
            handle._payload = None
            self.submissions.wait_for(task, prepared)
        else:
            handle._payload = prepared
            self.feed(on.TaskPrepared(task))


class RoutedSubmissions(Submissions):
    """Try one place after the other.

    Args:
        engine: Runs the tasks.
        backend: Both backends.
        carrier: As for ``Submissions``.
        scheduler: Knows where a task is to be tried.
    """

    def __init__(
        self, engine: RoutedEngine, backend: RoutedBackend, carrier: Carrier | None, scheduler: RoutedScheduler
    ) -> None:
        super().__init__(engine, backend, carrier)
        self._engine = engine
        self._scheduler = scheduler
        self._here = Place(self._admit_here, backend.local, can=backend.capabilities)
        self._there = Place(self._admit_there, backend.remote, can=backend.capabilities, remote=True)

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        options: TaskOptions,
        names: tuple[str, str],
        record: TaskRecord | None,
        place: Place,
        *,
        lent: bool,
    ) -> TaskHandle[Any]:
        timeout = None if options.is_admitted else options.timeout
        here: PoolError | None = None
        there: PoolError | None = None
        for remote in self._scheduler.order(timeout, names[1], self._engine.clock()):
            place = self._there if remote else self._here
            try:
                return super()._submit(fn, args, options, names, record, place, lent=lent)
            except PoolError as error:
                here, there = (here, error) if remote else (error, there)
                if not self._may_go_on(error, remote=remote):
                    break
        refusal = here or there
        assert refusal is not None  # noqa: S101 - there is at least one place
        if isinstance(refusal, QueueFull):
            self._engine.count_refused(1)
        raise refusal from None if refusal is there else there

    def _may_go_on(self, error: PoolError, *, remote: bool) -> bool:
        if not remote:
            return isinstance(error, _FULL_HERE)
        return isinstance(error, _LOST if self._scheduler.prefers_remote else _NOT_FOR_IT)

    def _admit_here(self, timeout: float | None, fair_key: str | None, name: str | None) -> None:
        self._engine.refuse(self._scheduler.refusal(timeout, fair_key, name, remote=False))

    def _admit_there(self, timeout: float | None, fair_key: str | None, name: str | None) -> None:
        self._engine.refuse(self._scheduler.refusal(timeout, fair_key, name, remote=True))
