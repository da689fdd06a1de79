"""Start, end and watch a pool: public methods, each of which passes on to the pool's runtime. ``Pool`` adds tasks."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from lifepool._engine.hook_calls import Observation
from lifepool._engine.lifecycle import Phase
from lifepool._pool.lifespans import own_lifespan
from lifepool._pool.runtime import PoolRuntime
from lifepool.errors import BackendUnsupported

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from lifepool._core.states import PoolState
    from lifepool._engine.engine import Engine
    from lifepool.config import PoolConfig
    from lifepool.hooks import Hook, TaskRecord
    from lifepool.statistics import PoolStatistics, Readiness, WorkerSnapshot


class PoolLife:
    """Pass the calls that start, end and watch a pool on to its runtime.

    Args:
        config: Its settings.
    """

    def __init__(self, config: PoolConfig) -> None:
        self._runtime = PoolRuntime(config, self)

    def __repr__(self) -> str:
        return f"<Pool {self.config.name!r} {self.state.value}, max_workers={self.max_workers}>"

    @property
    def config(self) -> PoolConfig:
        """Return the settings, complete."""
        return self._runtime.config

    @property
    def _engine(self) -> Engine | None:
        return self._runtime.lifecycle.engine

    # -- life -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PoolState:
        """Return where the pool is in its life."""
        return self._runtime.lifecycle.state

    @property
    def max_workers(self) -> int:
        """Return how many workers there may be."""
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
        await self._runtime.start()

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
        await self._runtime.running_engine().recycle()

    async def drain(self, timeout: float | None = None) -> None:
        """Take nothing new, finish what is there, and end. May be called in any state, twice, and by two at once.

        The log says at the beginning, and every few seconds, what is waited for; and at the end what was cancelled.

        Args:
            timeout: Seconds to wait for tasks; what is not finished then is cancelled. None: ``drain_timeout``. If the
                pool drains already, this limit holds from now on.

        Raises:
            RuntimeError: If the pool lives on another event loop.

        Cancellation:
            Ends at once: what is not finished is cancelled. Returns when the workers are gone and hooks are notified.
        """
        await self._runtime.end(timeout)

    async def aclose(self, timeout: float | None = None) -> None:
        """End the pool: drain, then stop the workers. May be called in any state, and twice.

        Args:
            timeout: As for ``drain``; 0 ends at once.
        """
        await self._runtime.end(timeout)

    async def __aenter__(self) -> Self:
        await self._runtime.enter(under_a_server=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runtime.leave()

    def lifespan(self, app_or_lifespan: Any, /) -> Any:
        """Make the pool's life an ASGI lifespan.

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
            self._runtime.app = app_or_lifespan
            return self._lifespan()

        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[dict[str, Any]]:
            self._runtime.app = app
            async with self._lifespan() as state, own(app) as own_state:
                yield {**state, **(own_state or {})}

        return both

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[dict[str, Any]]:
        await self._runtime.enter()
        try:
            yield {"pool": self}
        finally:
            await self._runtime.leave()

    # -- numbers --------------------------------------------------------------------------------------------------

    def statistics(self) -> PoolStatistics:
        """Look at the pool once: queue, workers, outcomes, times. Costs some ten microseconds. From any thread."""
        return self._runtime.statistics()

    def workers(self) -> tuple[WorkerSnapshot, ...]:
        """Look at every worker once: what it runs and for how long, its process and memory. From any thread."""
        engine = self._engine
        return () if engine is None else engine.queries.workers()

    def task_record(self, task: int) -> TaskRecord | None:
        """Return the record of a task, as hooks get it. None if it has its outcome, or if no hook watches."""
        engine = self._engine
        return None if engine is None else engine.queries.record_of(task)

    def task_records(self, most: int = 100) -> list[TaskRecord]:
        """Return the same of the tasks without an outcome that have been in the pool for longest, at most so many."""
        engine = self._engine
        return [] if engine is None else engine.queries.oldest_records(most)

    # -- hooks ----------------------------------------------------------------------------------------------------

    def add_hook(self, hook: Hook) -> None:
        """Have a hook watch this pool from now on; tasks that were submitted before are not reported to it.

        Args:
            hook: See ``lifepool.hooks``. It stays when the pool is closed and started again. One that watches already
                goes on as it is.

        Raises:
            BackendUnsupported: If it wants what the backend can't give, such as the logs of workers.
            TypeError: If one of its methods is async.
            RuntimeError: If the pool's event loop runs in another thread.
        """
        self._runtime.check_here()
        engine = self._engine
        if (observation := self._runtime.observation) is None:
            observation = self._runtime.observation = Observation(self)
            if engine is not None:
                engine.observation = observation
        if not observation.add(hook) or engine is None or self._runtime.lifecycle.phase is not Phase.RUNNING:
            return
        try:
            engine.forward_logs()
        except BackendUnsupported:
            observation.remove(hook)
            raise
        observation.pool_started(hook)

    def remove_hook(self, hook: Hook) -> None:
        """Stop calling a hook.

        Raises:
            ValueError: If it does not watch, also because it raised and was disabled.
            RuntimeError: If the pool's event loop runs in another thread.
        """
        self._runtime.check_here()
        observation = self._runtime.observation
        if observation is None or not observation.remove(hook):
            raise ValueError(f"{hook!r} does not watch this pool")

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """Return the hooks that watch this pool."""
        observation = self._runtime.observation
        return () if observation is None else observation.hooks

    def tell_hooks(self) -> None:
        """Notify hooks now of what they are notified of in batches: for those that are about to show what they know.

        Raises:
            RuntimeError: If the pool's event loop runs in another thread.
        """
        self._runtime.check_here()
        if self._runtime.observation is not None:
            self._runtime.observation.flush()

    # -- readiness ------------------------------------------------------------------------------------------------

    def readiness(self) -> Readiness:
        """Tell whether this server should be sent requests, for a readiness probe.

        It says no from the moment that SIGTERM or Ctrl-C comes (if the pool's life is the app's, or lies within it),
        while the pool starts or drains, while no worker is up or none can be started, and while the queue is full. A
        pool that has let all workers go because there is nothing to do is ready. From any thread.
        """
        return self._runtime.readiness()
