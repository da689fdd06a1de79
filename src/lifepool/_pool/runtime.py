"""The part of a pool that makes its engines, starts and ends them, and counts who needs the pool."""

from __future__ import annotations

import logging
import os
import time
import weakref
from dataclasses import replace
from threading import get_ident
from typing import TYPE_CHECKING, Any

from lifepool._core.admission import NOT_STARTED_HINT
from lifepool._core.policy import Limits
from lifepool._core.states import PoolState
from lifepool._engine.lifecycle import Lifecycle, Owner, Phase
from lifepool._host.cpus import cpu_budget
from lifepool._host.termination import TerminationWatch
from lifepool._inside import state
from lifepool._pool.declarations import Declarations
from lifepool._transfer.context import Carrier
from lifepool._usercode.needed_modules import modules_ahead
from lifepool.backends.selection import check_backends, make_backend
from lifepool.errors import PoolClosed
from lifepool.statistics import HistogramSnapshot, PoolStatistics, Readiness

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lifepool._engine.engine import Engine
    from lifepool._engine.hook_calls import Observation
    from lifepool._inside.resources import Resource
    from lifepool.backends.base import Backend, Capabilities
    from lifepool.config import PoolConfig

logger = logging.getLogger("lifepool")

#: Those of all pools there are in this process; for ``lifepool.testing``.
_all: weakref.WeakSet[PoolRuntime] = weakref.WeakSet()


class PoolRuntime:
    """Make and run the engines of one pool, one after the other.

    Args:
        config: The pool's settings.
        pool: The pool itself: workers import the modules that have it as a global before they are ready.

    Attributes:
        config: The settings.
        declared: What the pool's decorators have declared.
        lifecycle: Starts and ends the engines.
        observation: The pool's hooks, once there are some.
        app: The app whose lifespan the pool's is.
        make_backend: Makes the backend of the settings, for modules that tasks are known to need. Tests replace it.
        clock: Monotonic seconds. Tests replace it.
    """

    def __init__(self, config: PoolConfig, pool: object) -> None:
        check_backends(config)
        self.config = config
        self.declared: Declarations = Declarations()
        self.observation: Observation | None = None
        self.app: Any = None
        self.lifecycle: Lifecycle = Lifecycle(
            Owner(config.name, self._make_engine, self._has_started, self.declared.flush_batches, self._has_ended)
        )
        self.make_backend: Callable[[PoolConfig, tuple[str, ...]], Backend] = make_backend
        self.clock: Callable[[], float] = time.monotonic
        self._pool = pool
        self._termination = TerminationWatch()
        self._holders = 0  # nested 'async with' and lifespans; the last to leave closes
        self._holders_in = os.getpid()
        _all.add(self)

    def add_resource(self, resource: Resource[Any]) -> None:
        """Remember a resource that workers are to load."""
        if resource.eager and self.lifecycle.state not in (PoolState.CREATED, PoolState.CLOSED):
            logger.warning("the pool runs already: the resource %s is loaded when it is first used", resource.__name__)
        self.declared.resources.append(resource)
        self.declared.modules[resource.__module__] = None

    # -- start and end --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start, or wait for the start that is under way; see ``Pool.start``."""
        state.check_start()
        await self.lifecycle.start()

    async def end(self, timeout: float | None = None) -> None:
        """Drain and end within ``timeout`` seconds, or ``drain_timeout``; see ``Pool.drain``."""
        await self.lifecycle.end(self.config.drain_timeout if timeout is None else timeout)

    async def enter(self, *, under_a_server: bool = False) -> None:
        """Count one more who needs the pool; the first one starts it."""
        if self._holders_in != os.getpid():
            self._holders, self._holders_in = 0, os.getpid()  # those of before are the parent's
        self._holders += 1
        try:
            if self._holders == 1:
                self._termination.install(
                    self._on_termination,
                    is_ending=lambda: self.lifecycle.phase is Phase.ENDING,
                    delay=self.config.shutdown_delay,
                    under_a_server=under_a_server,
                )
            await self.start()
        except BaseException:
            self._holders -= 1
            if not self._holders:
                self._termination.uninstall()
            raise

    async def leave(self) -> None:
        """Count one less who needs the pool; the last one ends it."""
        self._holders -= 1
        if self._holders:
            return
        try:
            await self.end(0 if self._termination.insisted else None)
        finally:
            if not self._holders:  # nobody came while it ended
                self._termination.uninstall()

    def _on_termination(self, insists: bool) -> None:
        """Give up a start, which SIGTERM or Ctrl-C make needless; a second one cuts a drain short."""
        self.lifecycle.give_up_start()
        if insists:
            self.lifecycle.hurry()

    # -- the engine -----------------------------------------------------------------------------------------------

    def running_engine(self) -> Engine:
        """Return the engine that takes tasks here and now.

        Raises:
            PoolClosed: If the pool was never started, or still starts.
            RuntimeError: If it lives on another event loop.
        """
        engine = self.lifecycle.engine
        if engine is None:
            raise self._not_up()
        # The cheap question first: asking asyncio for the running loop costs a system call on Python 3.11.
        is_here = (get_ident() == engine.thread and engine.loop.is_running()) or engine.is_here()
        if not is_here and self.lifecycle.is_alive:
            raise self.lifecycle.refusal()
        return engine

    def check_here(self) -> None:
        """Refuse callers on other threads and event loops than the pool's.

        Raises:
            RuntimeError: If the pool's event loop runs in another thread.
            PoolClosed: In a forked copy of the pool's process.
        """
        if self.lifecycle.is_copy or self.lifecycle.is_elsewhere():
            raise self.lifecycle.refusal()

    def loop_for_threads(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that a thread can wait for.

        Raises:
            RuntimeError: If it is the caller's own.
            PoolClosed: If the pool does not run.
        """
        engine = self.lifecycle.engine
        if engine is None:
            raise self._not_up()
        if self.lifecycle.is_copy:  # its event loop runs in the parent, and would never answer
            raise self.lifecycle.refusal()
        if engine.is_here():
            raise RuntimeError(
                "pool.from_thread is for other threads: on the pool's event loop it would wait for itself. Write "
                "'await pool.run(fn, ...)' there; in FastAPI, make the endpoint 'async def' or call from a plain 'def'"
            )
        if engine.loop.is_closed() or not self.lifecycle.is_alive:
            raise PoolClosed("the pool is closed", hint="its lifespan has ended: send tasks before that")
        return engine.loop

    def _not_up(self) -> PoolClosed:
        if self.lifecycle.phase is Phase.STARTING:
            return PoolClosed("the pool still starts", hint="send tasks when 'await pool.start()' has returned")
        hint = state.UNSTARTED_HINT if state.is_worker else NOT_STARTED_HINT
        return PoolClosed("the pool was never started", hint=hint)

    def _make_engine(self) -> Engine:
        # Not at the top: workers and commands import modules that have a pool, and never start it.
        from lifepool._engine.engine import Engine

        config = self.config
        modules = modules_ahead(self.declared.modules, (self._pool, self.app))
        backend = self.make_backend(self.declared.worker_config(config), modules)
        carrier = Carrier(config.carry_context) if config.carry_context else None
        about: dict[str, Any] = {
            "clock": self.clock,
            "carrier": carrier,
            "observation": self.observation,
            "name": config.name,
        }
        if config.overflow is not None or config.fallback is not None:
            from lifepool._engine.routing import RoutedEngine
            from lifepool.backends.routed import RoutedBackend

            if isinstance(backend, RoutedBackend):  # not inline, for a test
                limits, remote = (self._limits(each.capabilities) for each in (backend.local, backend.remote))
                remote = replace(remote, min_workers=1, numbering=-1)
                return RoutedEngine(backend, limits, remote, target_wait=config.target_wait, **about)
        return Engine(backend, self._limits(backend.capabilities), **about)

    def _limits(self, can: Capabilities) -> Limits:
        config = self.config
        most = config.max_workers if can.max_workers is None else min(config.max_workers, can.max_workers)
        return Limits(
            max_workers=most,
            min_workers=min(config.min_workers, most),
            max_queue=config.max_queue,
            slots=can.slots,
            max_tasks_per_worker=config.max_tasks_per_worker if can.slots == 1 else None,
            max_worker_memory=config.max_worker_memory,
            max_kept_bytes=config.max_payload,
            idle_timeout=config.idle_timeout,
            start_timeout=config.start_timeout,
            cpus=cpu_budget().cpus if can.own_processes else None,
            can_kill=can.kill and not can.remote,  # there it is a node that kills
            can_interrupt=can.interrupt,
            is_cluster=can.remote,
            can_retract=can.retract,
        )

    def _has_started(self, seconds: float) -> None:
        config = self.config
        logger.info(
            "pool %r is up: %d of %d workers in %.0f ms; max_workers from %s",
            config.name,
            sum(self.statistics().workers.values()),
            config.max_workers,
            seconds * 1e3,
            config.max_workers_source,
        )
        if self.observation is not None:
            self.observation.pool_started()

    def _has_ended(self) -> None:
        try:
            self.declared.close_resources()
        finally:
            if self.observation is not None:
                self.observation.pool_closed()

    # -- numbers --------------------------------------------------------------------------------------------------

    def statistics(self) -> PoolStatistics:
        """Look at the pool once; see ``Pool.statistics``."""
        engine, pool_state = self.lifecycle.engine, self.lifecycle.state
        if engine is not None:
            return engine.queries.statistics(pool_state)
        nothing = HistogramSnapshot((), (0,), 0.0)
        return PoolStatistics(
            state=pool_state.value, max_workers=self.config.max_workers, workers={}, queued=0, running=0, submitted=0,
            refused=0, retried=0, completed=0, failed=0, cancelled=0, timed_out=0, lost=0, restarts={}, wait=nothing,
            run=nothing, utilisation=0.0,
        )  # fmt: skip

    def readiness(self) -> Readiness:
        """Return whether this server should be sent requests; see ``Pool.readiness``."""
        statistics = self.statistics()
        engine = self.lifecycle.engine
        crash = engine.queries.crash_loop if engine is not None else None
        reasons = {
            "broken": engine is not None and engine.is_broken and self.lifecycle.is_alive,
            "terminating": self._termination.terminating,
            statistics.state: statistics.state != PoolState.RUNNING.value,
            "crash-looping": crash is not None,
            "no-worker": crash is None and self._lacks_workers(statistics),
            "saturated": self._is_saturated(statistics),
        }
        if engine is not None and statistics.state == PoolState.RUNNING.value:
            reasons["unreachable"] = engine.queries.unreachable is not None
        degraded = self._degraded(reasons, statistics)
        found = tuple(reason for reason, applies in reasons.items() if applies)
        return Readiness(not found, found, degraded)

    def _is_saturated(self, now: PoolStatistics) -> bool:
        most = self.config.max_queue
        return now.queued >= most if now.routing is None else now.routing.is_saturated(most)

    def _degraded(self, reasons: dict[str, bool], now: PoolStatistics) -> tuple[str, ...]:
        """Return what is wrong with one of two backends while the other one runs tasks; it is no reason any more."""
        if now.routing is None or now.state != PoolState.RUNNING.value:
            return ()
        if now.routing.breaker != "closed":
            return ("breaker-open",)
        found = tuple(reason for reason in ("crash-looping", "no-worker") if reasons[reason])
        reasons.update(dict.fromkeys(found, False))
        return found

    def _lacks_workers(self, now: PoolStatistics) -> bool:
        """Tell whether a running pool has no worker that could do anything, though it should have."""
        if now.state != PoolState.RUNNING.value or now.workers_up:
            return False
        return self.config.min_workers > 0 or now.queued > 0 or now.workers.get("starting", 0) > 0


def is_open(runtime: PoolRuntime) -> bool:
    """Return whether the pool was started and has not ended."""
    return runtime.lifecycle.state not in (PoolState.CREATED, PoolState.CLOSED)


def open_pools() -> list[object]:
    """Return all pools of this process that were started and have not ended."""
    return [runtime._pool for runtime in tuple(_all) if is_open(runtime)]
