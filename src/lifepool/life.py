"""The life of a pool: how it starts and ends, with whom, and what can be seen of it. ``Pool`` adds the tasks."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self

from lifepool import _inside
from lifepool._core.admission import NOT_STARTED_HINT
from lifepool._core.policy import Limits
from lifepool._core.states import PoolState
from lifepool._engine.observation import Observation
from lifepool.backends.select import check_backend, make_backend
from lifepool.context import Carrier
from lifepool.errors import BackendUnsupported, PoolClosed
from lifepool.statistics import HistogramSnapshot, PoolStatistics, Readiness, WorkerSnapshot
from lifepool.termination import TerminationWatch

if TYPE_CHECKING:
    from types import TracebackType

    from lifepool._engine.engine import Engine
    from lifepool.backends.base import Backend
    from lifepool.config import PoolConfig
    from lifepool.hooks import Hook, TaskRecord

logger = logging.getLogger("lifepool")

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class PoolLife:
    """What a pool is apart from its tasks.

    Args:
        config: Its settings.
    """

    def __init__(self, config: PoolConfig) -> None:
        check_backend(config.backend)
        self.config = config
        self._engine: Engine | None = None
        self._observation: Observation | None = None
        self._termination = TerminationWatch()
        self._holders = 0  # nested 'async with' and lifespans; the last to leave closes

    def __repr__(self) -> str:
        return f"<Pool {self.config.name!r} {self.state.value}, max_workers={self.max_workers}>"

    # -- life -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PoolState:
        """Where the pool is in its life."""
        return PoolState.CREATED if self._engine is None else self._engine.state

    @property
    def max_workers(self) -> int:
        """Workers there may be."""
        return self.config.max_workers

    async def start(self) -> None:
        """Start the workers; return when they are ready. A pool that runs already is left as it is.

        Raises:
            WorkerStartError: If one can't start; its own traceback is in the message.
            PoolClosed: While a worker imports the module: a script without the ``__main__`` guard got here. A task may
                start a pool.

        Cancellation:
            Ends what was started.
        """
        _inside.check_start()
        if self._engine is not None and self._engine.loop.is_closed() and self.state is not PoolState.CLOSED:
            self._engine.abandon()  # nobody closed the pool before its event loop ended
            self._engine = None
        if self._engine is not None and self.state in (PoolState.STARTING, PoolState.RUNNING):
            await self._engine.wait_started()
            return
        # Not at the top: workers and commands import modules that have a pool, and never start it.
        from lifepool._engine.engine import Engine

        began = time.perf_counter()
        backend = make_backend(self._worker_config())
        carrier = Carrier(self.config.carry_context) if self.config.carry_context else None
        self._engine = engine = Engine(backend, self._limits(backend), carrier=carrier, observation=self._observation)
        await engine.start()
        self._log_started(time.perf_counter() - began)
        if self._observation is not None:
            self._observation.pool_started(self)

    async def recycle(self) -> None:
        """Replace all workers, one after another, without a dip in capacity; return when all successors serve.

        Each successor is started first; the worker that it replaces finishes what it runs. No task is lost.

        Raises:
            PoolClosed: If the pool does not run, or ends meanwhile.
            WorkerStartError: If a successor can't start. The workers that were not replaced stay.
            BackendUnsupported: If the backend has no worker processes of its own.

        Cancellation:
            The replacement goes on.
        """
        await self._running_engine().recycle()

    async def drain(self, timeout: float | None = None) -> None:
        """Take nothing new, finish what is there, and end.

        Args:
            timeout: Seconds to wait for tasks; what is not finished then is cancelled. None: ``drain_timeout``.

        Cancellation:
            Ends at once: what is not finished is cancelled.
        """
        engine = self._engine
        if engine is not None:
            was_closed = engine.state is PoolState.CLOSED
            self._before_drain()
            await engine.drain(self.config.drain_timeout if timeout is None else timeout)
            self._after_drain()
            if self._observation is not None and not was_closed:
                self._observation.pool_closed(self)

    async def aclose(self, timeout: float | None = None) -> None:
        """End the pool: drain, then stop the workers. May be called in any state, and twice.

        Args:
            timeout: As for ``drain``; 0 ends at once.
        """
        if self._engine is not None and self._engine.state is not PoolState.CLOSED:
            await self.drain(timeout)

    async def __aenter__(self) -> Self:
        self._holders += 1
        try:
            await self.start()
        except BaseException:
            self._holders -= 1
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._holders -= 1
        if not self._holders:
            await self.aclose()

    def lifespan(self, app_or_lifespan: Any, /) -> Any:
        """The pool's life as an ASGI lifespan.

        Alone: ``FastAPI(lifespan=pool.lifespan)``. Around the app's own: ``FastAPI(lifespan=pool.lifespan(own))``;
        the pool is up before ``own`` begins and ends after it. Inside the app's own: ``async with pool:``. Handlers
        find the pool as ``request.state.pool``.

        Args:
            app_or_lifespan: The app, given by the framework; or a lifespan function of the app's own.

        Returns:
            A context manager for the app; or a lifespan function.
        """
        if _is_lifespan(app_or_lifespan):
            own: Lifespan = app_or_lifespan

            @asynccontextmanager
            async def both(app: Any) -> AsyncIterator[dict[str, Any]]:
                async with self.lifespan(app) as state, own(app) as own_state:
                    yield {**state, **(own_state or {})}

            return both
        return self._lifespan()

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        self._termination.install(lambda: loop.call_soon_threadsafe(self._give_up_start))
        try:
            async with self:
                yield {"pool": self}
        finally:
            self._termination.uninstall()

    # -- numbers --------------------------------------------------------------------------------------------------

    def statistics(self) -> PoolStatistics:
        """One look at the pool: queue, workers, outcomes, times. Costs some ten microseconds."""
        if self._engine is not None:
            return self._engine.statistics()
        nothing = HistogramSnapshot((), (0,), 0.0)
        return PoolStatistics(
            state=self.state.value, max_workers=self.max_workers, workers={}, queued=0, running=0, submitted=0,
            refused=0, retried=0, completed=0, failed=0, cancelled=0, timed_out=0, lost=0, restarts={}, wait=nothing,
            run=nothing, utilisation=0.0,
        )  # fmt: skip

    def workers(self) -> tuple[WorkerSnapshot, ...]:
        """One look at every worker: what it runs and for how long, its process and memory."""
        return () if self._engine is None else self._engine.workers()

    def task_record(self, task: int) -> TaskRecord | None:
        """What hooks are told of a task, by its number, while it has no outcome. None too if no hook watches."""
        return None if self._engine is None else self._engine.record_of(task)

    def task_records(self, most: int = 100) -> list[TaskRecord]:
        """The same of the tasks that have been in the pool for longest and have no outcome yet, at most so many."""
        return [] if self._engine is None else self._engine.oldest_records(most)

    # -- hooks ----------------------------------------------------------------------------------------------------

    def add_hook(self, hook: Hook) -> None:
        """Have a hook watch this pool, from now on: tasks submitted before are not told of.

        Args:
            hook: See ``lifepool.hooks``. It stays when the pool is closed and started again.

        Raises:
            BackendUnsupported: If it wants what the backend can't give, such as the logs of workers.
        """
        if self._observation is None:
            self._observation = Observation(self)
            if self._engine is not None:
                self._engine.observation = self._observation
        self._observation.add(hook)
        if self._engine is not None and self.state is PoolState.RUNNING:
            try:
                self._engine.forward_logs()
            except BackendUnsupported:
                self._observation.remove(hook)
                raise
            self._observation.pool_started(self, hook)

    def remove_hook(self, hook: Hook) -> None:
        """Let a hook watch no more.

        Raises:
            ValueError: If it does not watch, also because it raised and was disabled.
        """
        if self._observation is None or hook not in self._observation.hooks:
            raise ValueError(f"{hook!r} does not watch this pool")
        self._observation.remove(hook)
        if self.state is PoolState.RUNNING:
            self._observation.pool_closed(self, hook)

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """Who watches this pool."""
        return () if self._observation is None else tuple(self._observation.hooks)

    def tell_hooks(self) -> None:
        """Tell hooks now what they are told in batches; for those that are about to show what they know."""
        if self._observation is not None:
            self._observation.flush()

    # -- readiness ------------------------------------------------------------------------------------------------

    def readiness(self) -> Readiness:
        """Whether this server should be sent requests, for a readiness probe.

        It says no from the moment that SIGTERM or Ctrl-C comes (if the pool's life is the app's lifespan), while the
        pool starts or drains, while no worker can be started, and while the queue is full.
        """
        statistics = self.statistics()
        crash = self._engine.crash_loop if self._engine is not None else None
        reasons = {
            "broken": self._engine is not None and self._engine.is_broken,
            "terminating": self._termination.terminating,
            statistics.state: statistics.state != PoolState.RUNNING.value,
            "crash-looping": crash is not None,
            "saturated": statistics.queued >= self.config.max_queue,
        }
        found = tuple(reason for reason, applies in reasons.items() if applies)
        return Readiness(not found, found)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _give_up_start(self) -> None:
        """The server is to end: if the pool still starts, it need not any more."""
        if self._engine is not None and self.state is PoolState.STARTING:
            self._engine.give_up_start()

    def _worker_config(self) -> PoolConfig:
        """The settings, with what workers are to do beyond them."""
        return self.config

    def _after_drain(self) -> None:
        """The pool has ended."""

    def _before_drain(self) -> None:
        """What waits outside of the engine goes in, before that takes no more."""

    def _running_engine(self) -> Engine:
        engine = self._engine
        if engine is None:
            hint = _inside.UNSTARTED_HINT if _inside.is_worker else NOT_STARTED_HINT
            raise PoolClosed("the pool was never started", hint=hint)
        # The cheap question first: asking asyncio for the running loop costs a system call on Python 3.11.
        if not (get_ident() == engine.thread and engine.loop.is_running()):
            _refuse_other_loops(engine)
        return engine

    def _limits(self, backend: Backend) -> Limits:
        config, can = self.config, backend.capabilities
        most = config.max_workers if can.max_workers is None else min(config.max_workers, can.max_workers)
        return Limits(
            max_workers=most,
            min_workers=min(config.min_workers, most),
            max_queue=config.max_queue,
            slots=can.slots,
            max_tasks_per_worker=config.max_tasks_per_worker if can.slots == 1 else None,
            max_worker_memory=config.max_worker_memory,
            idle_timeout=config.idle_timeout,
            start_timeout=config.start_timeout,
            can_kill=can.kill,
            can_interrupt=can.interrupt,
            can_retract=can.retract,
        )

    def _log_started(self, seconds: float) -> None:
        config = self.config
        logger.info(
            "pool %r is up: %d of %d workers in %.0f ms; max_workers from %s",
            config.name,
            sum(self.statistics().workers.values()),
            config.max_workers,
            seconds * 1e3,
            config.max_workers_source,
        )


def _refuse_other_loops(engine: Engine) -> None:
    try:
        is_here = asyncio.get_running_loop() is engine.loop
    except RuntimeError:
        is_here = False
    if not is_here and engine.state is not PoolState.CLOSED:
        raise RuntimeError(
            "this pool belongs to another event loop: from a thread use "
            "asyncio.run_coroutine_threadsafe(pool.run(...), loop)"
        )


def _is_lifespan(candidate: Any) -> bool:
    """Whether this is a lifespan function rather than an app: a function of one argument (an ASGI app has three)."""
    if not inspect.isroutine(candidate) and not isinstance(candidate, functools.partial):
        return False
    return len(inspect.signature(candidate).parameters) == 1
