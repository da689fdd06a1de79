"""The life of a pool: how it starts and ends, with whom, and what can be seen of it. ``Pool`` adds the tasks."""

from __future__ import annotations

import logging
import os
from contextlib import asynccontextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self

from lifepool._core.admission import NOT_STARTED_HINT
from lifepool._core.policy import Limits
from lifepool._core.states import PoolState
from lifepool._engine.hook_calls import Observation
from lifepool._engine.lifecycle import Lifecycle, Owner, Phase
from lifepool._host.termination import TerminationWatch
from lifepool._inside import state as _inside
from lifepool._pool.lifespans import own_lifespan
from lifepool._transfer.context import Carrier
from lifepool._usercode.needed_modules import modules_ahead
from lifepool.backends.selection import check_backend, make_backend
from lifepool.errors import BackendUnsupported, PoolClosed
from lifepool.statistics import HistogramSnapshot, PoolStatistics, Readiness, WorkerSnapshot

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from types import TracebackType

    from lifepool._engine.engine import Engine
    from lifepool.backends.base import Backend
    from lifepool.config import PoolConfig
    from lifepool.hooks import Hook, TaskRecord

logger = logging.getLogger("lifepool")


class PoolLife:
    """What a pool is apart from its tasks.

    Args:
        config: Its settings.
    """

    def __init__(self, config: PoolConfig) -> None:
        check_backend(config.backend)
        self.config = config
        self._life = Lifecycle(
            Owner(config.name, self._make_engine, self._has_started, self._before_drain, self._has_ended)
        )
        self._observation: Observation | None = None
        self._termination = TerminationWatch()
        self._task_modules: dict[str, None] = {}  # those that decorated functions are defined in
        self._app: Any = None  # the one whose lifespan this is
        self._holders = 0  # nested 'async with' and lifespans; the last to leave closes
        self._holders_in = os.getpid()

    def __repr__(self) -> str:
        return f"<Pool {self.config.name!r} {self.state.value}, max_workers={self.max_workers}>"

    # -- life -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PoolState:
        """Where the pool is in its life."""
        return self._life.state

    @property
    def max_workers(self) -> int:
        """Workers there may be."""
        return self.config.max_workers

    async def start(self) -> None:
        """Start the workers; return when they are ready. A pool that runs already is left as it is.

        If it starts already, that start is waited for; if it ends, the end, and then it is started again.

        Raises:
            WorkerStartError: If one can't start; its own traceback is in the message.
            PoolClosed: If it was closed meanwhile. While a worker imports the module: a script without the ``__main__``
                guard got here. A task may start a pool.
            RuntimeError: If it lives on another event loop.

        Cancellation:
            Ends what was started, unless others wait for it too.
        """
        _inside.check_start()
        await self._life.start()

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
        """Take nothing new, finish what is there, and end. May be called in any state, twice, and by two at once.

        The log says at the beginning, and every few seconds, what is waited for; and at the end what was cancelled.

        Args:
            timeout: Seconds to wait for tasks; what is not finished then is cancelled. None: ``drain_timeout``. If the
                pool drains already, this limit holds from now on.

        Raises:
            RuntimeError: If the pool lives on another event loop.

        Cancellation:
            Ends at once: what is not finished is cancelled. Returns when the workers are gone and hooks were told.
        """
        await self._life.end(self.config.drain_timeout if timeout is None else timeout)

    async def aclose(self, timeout: float | None = None) -> None:
        """End the pool: drain, then stop the workers. May be called in any state, and twice.

        Args:
            timeout: As for ``drain``; 0 ends at once.
        """
        await self.drain(timeout)

    async def __aenter__(self) -> Self:
        await self._enter(under_a_server=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    def lifespan(self, app_or_lifespan: Any, /) -> Any:
        """The pool's life as an ASGI lifespan.

        Alone: ``FastAPI(lifespan=pool.lifespan)``. Around the app's own: ``FastAPI(lifespan=pool.lifespan(own))``;
        the pool is up before ``own`` begins and ends after it. Inside the app's own: ``async with pool:``. Handlers
        find the pool as ``request.state.pool``.

        SIGTERM and Ctrl-C are heard when they come, and passed on: readiness turns red, a start is given up, and the
        second one cuts the drain short. With ``shutdown_delay``, the server hears of SIGTERM that much later.

        Args:
            app_or_lifespan: The app, given by the framework; or a lifespan function of the app's own: whatever can be
                called with the app alone and returns an asynchronous context manager.

        Returns:
            A context manager for the app; or a lifespan function.

        Raises:
            TypeError: If it is neither.
        """
        own = own_lifespan(app_or_lifespan)
        if own is None:
            self._app = app_or_lifespan
            return self._lifespan()

        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[dict[str, Any]]:
            self._app = app
            async with self._lifespan() as state, own(app) as own_state:
                yield {**state, **(own_state or {})}

        return both

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[dict[str, Any]]:
        await self._enter()
        try:
            yield {"pool": self}
        finally:
            await self._leave()

    # -- numbers --------------------------------------------------------------------------------------------------

    def statistics(self) -> PoolStatistics:
        """Look at the pool once: queue, workers, outcomes, times. Costs some ten microseconds. From any thread."""
        engine = self._life.engine
        if engine is not None:
            return engine.queries.statistics(self.state)
        nothing = HistogramSnapshot((), (0,), 0.0)
        return PoolStatistics(
            state=self.state.value, max_workers=self.max_workers, workers={}, queued=0, running=0, submitted=0,
            refused=0, retried=0, completed=0, failed=0, cancelled=0, timed_out=0, lost=0, restarts={}, wait=nothing,
            run=nothing, utilisation=0.0,
        )  # fmt: skip

    def workers(self) -> tuple[WorkerSnapshot, ...]:
        """Look at every worker once: what it runs and for how long, its process and memory. From any thread."""
        engine = self._life.engine
        return () if engine is None else engine.queries.workers()

    def task_record(self, task: int) -> TaskRecord | None:
        """What hooks are told of a task, by its number, while it has no outcome. None too if no hook watches."""
        engine = self._life.engine
        return None if engine is None else engine.queries.record_of(task)

    def task_records(self, most: int = 100) -> list[TaskRecord]:
        """The same of the tasks that have been in the pool for longest and have no outcome yet, at most so many."""
        engine = self._life.engine
        return [] if engine is None else engine.queries.oldest_records(most)

    # -- hooks ----------------------------------------------------------------------------------------------------

    def add_hook(self, hook: Hook) -> None:
        """Have a hook watch this pool, from now on: tasks submitted before are not told of.

        Args:
            hook: See ``lifepool.hooks``. It stays when the pool is closed and started again. One that watches already
                goes on as it is.

        Raises:
            BackendUnsupported: If it wants what the backend can't give, such as the logs of workers.
            TypeError: If one of its methods is async.
            RuntimeError: If the pool's event loop runs in another thread.
        """
        self._must_be_here()
        engine = self._life.engine
        if self._observation is None:
            self._observation = Observation(self)
            if engine is not None:
                engine.observation = self._observation
        if not self._observation.add(hook) or engine is None or self._life.phase is not Phase.RUNNING:
            return
        try:
            engine.forward_logs()
        except BackendUnsupported:
            self._observation.remove(hook)
            raise
        self._observation.pool_started(hook)

    def remove_hook(self, hook: Hook) -> None:
        """Let a hook watch no more.

        Raises:
            ValueError: If it does not watch, also because it raised and was disabled.
            RuntimeError: If the pool's event loop runs in another thread.
        """
        self._must_be_here()
        if self._observation is None or not self._observation.remove(hook):
            raise ValueError(f"{hook!r} does not watch this pool")

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """Who watches this pool."""
        return () if self._observation is None else self._observation.hooks

    def tell_hooks(self) -> None:
        """Tell hooks now what they are told in batches; for those that are about to show what they know.

        Raises:
            RuntimeError: If the pool's event loop runs in another thread.
        """
        self._must_be_here()
        if self._observation is not None:
            self._observation.flush()

    # -- readiness ------------------------------------------------------------------------------------------------

    def readiness(self) -> Readiness:
        """Whether this server should be sent requests, for a readiness probe.

        It says no from the moment that SIGTERM or Ctrl-C comes (if the pool's life is the app's, or lies within it),
        while the pool starts or drains, while no worker is up or none can be started, and while the queue is full. A
        pool that has let all workers go because there is nothing to do is ready. From any thread.
        """
        statistics = self.statistics()
        engine = self._life.engine
        crash = engine.queries.crash_loop if engine is not None else None
        reasons = {
            "broken": engine is not None and engine.is_broken and self._life.is_alive,
            "terminating": self._termination.terminating,
            statistics.state: statistics.state != PoolState.RUNNING.value,
            "crash-looping": crash is not None,
            "no-worker": crash is None and self._lacks_workers(statistics),
            "saturated": statistics.queued >= self.config.max_queue,
        }
        found = tuple(reason for reason, applies in reasons.items() if applies)
        return Readiness(not found, found)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _lacks_workers(self, now: PoolStatistics) -> bool:
        """Tell whether a running pool has no worker that could do anything, though it should have."""
        if now.state != PoolState.RUNNING.value or now.workers_up:
            return False
        return self.config.min_workers > 0 or now.queued > 0 or now.workers.get("starting", 0) > 0

    @property
    def _engine(self) -> Engine | None:
        return self._life.engine

    async def _enter(self, *, under_a_server: bool = False) -> None:
        """Count one more who needs the pool; the first one starts it."""
        if self._holders_in != os.getpid():
            self._holders, self._holders_in = 0, os.getpid()  # those of before are the parent's
        self._holders += 1
        try:
            if self._holders == 1:
                delay = self.config.shutdown_delay
                self._termination.install(
                    self._told_to_stop,
                    is_ending=lambda: self._life.phase is Phase.ENDING,
                    delay=delay,
                    under_a_server=under_a_server,
                )
            await self.start()
        except BaseException:
            self._holders -= 1
            if not self._holders:
                self._termination.uninstall()
            raise

    async def _leave(self) -> None:
        """Count one less who needs it; the last one ends it."""
        self._holders -= 1
        if self._holders:
            return
        try:
            await self.aclose(0 if self._termination.insisted else None)
        finally:
            if not self._holders:  # nobody came while it ended
                self._termination.uninstall()

    def _told_to_stop(self, insists: bool) -> None:
        """Give up a start, which SIGTERM or Ctrl-C make needless; a second one cuts a drain short."""
        self._life.give_up_start()
        if insists:
            self._life.hurry()

    def _must_be_here(self) -> None:
        if self._life.is_copy or self._life.is_elsewhere():
            raise self._life.refusal()

    def _make_engine(self) -> Engine:
        # Not at the top: workers and commands import modules that have a pool, and never start it.
        from lifepool._engine.engine import Engine

        backend = make_backend(self._worker_config(), modules_ahead(self._task_modules, (self, self._app)))
        carrier = Carrier(self.config.carry_context) if self.config.carry_context else None
        return Engine(
            backend, self._limits(backend), carrier=carrier, observation=self._observation, name=self.config.name
        )

    def _has_started(self, seconds: float) -> None:
        self._log_started(seconds)
        if self._observation is not None:
            self._observation.pool_started()

    def _has_ended(self) -> None:
        try:
            self._after_drain()
        finally:
            if self._observation is not None:
                self._observation.pool_closed()

    def _worker_config(self) -> PoolConfig:
        """The settings, with what workers are to do beyond them."""
        return self.config

    def _after_drain(self) -> None:
        """The pool has ended."""

    def _before_drain(self) -> None:
        """What waits outside of the engine goes in, before that takes no more."""

    def _running_engine(self) -> Engine:
        engine = self._life.engine
        if engine is None:
            raise self._not_up()
        # The cheap question first: asking asyncio for the running loop costs a system call on Python 3.11.
        is_here = (get_ident() == engine.thread and engine.loop.is_running()) or engine.is_here()
        if not is_here and self._life.is_alive:
            raise self._life.refusal()
        return engine

    def _loop_for_threads(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that a thread can wait for.

        Raises:
            RuntimeError: If it is the caller's own.
            PoolClosed: If the pool does not run.
        """
        engine = self._life.engine
        if engine is None:
            raise self._not_up()
        if self._life.is_copy:  # its event loop runs in the parent, and would never answer
            raise self._life.refusal()
        if engine.is_here():
            raise RuntimeError(
                "pool.from_thread is for other threads: on the pool's event loop it would wait for itself. Write "
                "'await pool.run(fn, ...)' there; in FastAPI, make the endpoint 'async def' or call from a plain 'def'"
            )
        if engine.loop.is_closed() or not self._life.is_alive:
            raise PoolClosed("the pool is closed", hint="its lifespan has ended: send tasks before that")
        return engine.loop

    def _not_up(self) -> PoolClosed:
        if self._life.phase is Phase.STARTING:
            return PoolClosed("the pool still starts", hint="send tasks when 'await pool.start()' has returned")
        hint = _inside.UNSTARTED_HINT if _inside.is_worker else NOT_STARTED_HINT
        return PoolClosed("the pool was never started", hint=hint)

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
