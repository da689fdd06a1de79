"""``Pool``: the one class users meet."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, overload

from lifepool import _inside
from lifepool._core.admission import NOT_STARTED_HINT
from lifepool._core.policy import Limits
from lifepool._core.states import PoolState
from lifepool._engine.engine import Engine
from lifepool._engine.options import task_options
from lifepool.backends.select import check_backend, make_backend
from lifepool.bulk import bulk_size, map_chunks
from lifepool.config import PoolConfig, resolve
from lifepool.decorated import PoolTask
from lifepool.errors import PoolClosed
from lifepool.scope import current_scope
from lifepool.statistics import HistogramSnapshot, PoolStatistics, Readiness
from lifepool.termination import TerminationWatch

if TYPE_CHECKING:
    from types import TracebackType

    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.options import OnCancel
    from lifepool.backends.base import Backend

logger = logging.getLogger("lifepool")

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class _Unset:
    """Tells "not given" from every value that could be given."""


_UNSET: Any = _Unset()


class Pool:
    """A process pool that lives as long as your app.

    Nothing starts when it is made. It starts with ``async with pool:`` or with the app's lifespan
    (``FastAPI(lifespan=pool.lifespan)``), belongs to that event loop, and ends with it; after that it can be started
    again. Every argument can also be given as ``LIFEPOOL_<NAME>`` in the environment; an explicit argument wins.

    Args:
        max_workers: Workers there may be. None: as many CPUs as this container may really use, divided by the number
            of server processes.
        min_workers: Workers kept when there is nothing to do. None: ``max_workers``.
        max_queue: Tasks that may wait; one more is refused with ``QueueFull``.
        timeout: Seconds that a task may take, waiting included, unless it says otherwise. None: no limit.
        max_tasks_per_worker: Tasks after which a worker is replaced. None: never.
        max_worker_memory: Bytes of resident memory past which a worker is replaced after its task. A task that
            allocates more than twice as much gets a ``MemoryError``. None: no limit.
        idle_timeout: Seconds without work after which a worker above ``min_workers`` is let go.
        initializer: Called once in each worker before its first task: load the model there.
        initargs: Its arguments.
        preload: Names of modules that are imported once, in the clean process that workers are forked from.
        backend: ``"local"`` (this host's processes), ``"inline"`` (the caller's process, for tests), ``"executor"``
            (the standard library's ``ProcessPoolExecutor``), any ``concurrent.futures.Executor``, or a ``Backend``.
        start_timeout: Seconds within which a worker must be ready.
        drain_timeout: Seconds that the end of the pool waits for tasks to finish.
        max_payload: Bytes that pickled arguments or results may have.
        name: Used in log lines and in the names of processes.

    Raises:
        ValueError: If an argument or its environment variable has a value that makes no sense.
        TypeError: If an argument has a wrong type.
        BackendUnsupported: If this version has no such backend.
    """

    def __init__(
        self,
        *,
        max_workers: int | None = _UNSET,
        min_workers: int | None = _UNSET,
        max_queue: int = _UNSET,
        timeout: float | None = _UNSET,
        max_tasks_per_worker: int | None = _UNSET,
        max_worker_memory: int | str | None = _UNSET,
        idle_timeout: float = _UNSET,
        initializer: Callable[..., object] | str | None = _UNSET,
        initargs: tuple[Any, ...] = _UNSET,
        preload: Iterable[str] = _UNSET,
        backend: Any = _UNSET,
        start_timeout: float = _UNSET,
        drain_timeout: float = _UNSET,
        max_payload: int | str = _UNSET,
        name: str = _UNSET,
    ) -> None:
        given = {key: value for key, value in locals().items() if key != "self" and value is not _UNSET}
        self.config: PoolConfig = resolve(given)
        check_backend(self.config.backend)
        self._engine: Engine | None = None
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
            PoolClosed: In a worker: a script without the ``__main__`` guard got here.

        Cancellation:
            Ends what was started.
        """
        if _inside.is_worker:
            _inside.start_refused = True
            raise PoolClosed("a pool can't be started inside a worker", hint=_inside.GUARD_HINT)
        if self._engine is not None and self._engine.loop.is_closed() and self.state is not PoolState.CLOSED:
            self._engine.abandon()  # nobody closed the pool before its event loop ended
            self._engine = None
        if self._engine is not None and self.state in (PoolState.STARTING, PoolState.RUNNING):
            await self._engine.wait_started()
            return
        began = time.perf_counter()
        backend = make_backend(self.config)
        self._engine = engine = Engine(backend, self._limits(backend))
        await engine.start()
        self._log_started(time.perf_counter() - began)

    async def drain(self, timeout: float | None = None) -> None:
        """Take nothing new, finish what is there, and end.

        Args:
            timeout: Seconds to wait for tasks; what is not finished then is cancelled. None: ``drain_timeout``.

        Cancellation:
            Ends at once: what is not finished is cancelled.
        """
        if self._engine is not None:
            await self._engine.drain(self.config.drain_timeout if timeout is None else timeout)

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
        async with self:
            self._termination.install()
            try:
                yield {"pool": self}
            finally:
                self._termination.uninstall()

    # -- tasks ----------------------------------------------------------------------------------------------------

    async def run(
        self,
        fn: Callable[..., T],
        *args: Any,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (),
        fair_key: str | None = None,
        on_cancel: OnCancel = "interrupt",
    ) -> T:
        """Call ``fn(*args)`` in a worker and wait for the answer.

        Keywords are the pool's; the function's own go through ``functools.partial``. What the function raises is raised
        here as itself, with the worker's traceback as its cause.

        Args:
            fn: A function that a worker can import: defined at the top level of a module.
            *args: Its arguments; they are pickled.
            timeout: Seconds from now, waiting included; the task is interrupted then, and its worker killed if that
                does not help. None: the pool's default. ``math.inf``: no limit.
            retries: How often to run it again if its worker dies, or if it raises one of ``retry_on``.
            priority: Higher goes first: each step counts like a second of waiting, so nobody starves.
            retry_on: Exception types after which it is worth running again.
            fair_key: Tasks of different keys take turns, and no key can fill the queue.
            on_cancel: ``"interrupt"``: if nobody waits any more, a running task is broken off. ``"abandon"``: it goes
                on, its answer is dropped.

        Raises:
            PoolClosed: If the pool does not run.
            QueueFull: If there is no room, or the predicted wait is longer than the timeout.
            TaskTimeout: If the timeout passed.
            TaskNotPicklable: If the function, an argument or the result can't be sent; names the part.
            PayloadTooLarge: If arguments or result are above ``max_payload``.
            WorkerLost: If the worker died while it ran the task.
            WorkerStartError: If no worker can be started.

        Cancellation:
            See ``on_cancel``. A task that still waits is dropped at once.
        """
        return await self._submit(fn, args, timeout, retries, priority, retry_on, fair_key, on_cancel)

    def submit(
        self,
        fn: Callable[..., T],
        *args: Any,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (),
        fair_key: str | None = None,
        on_cancel: OnCancel = "interrupt",
    ) -> TaskHandle[T]:
        """Queue ``fn(*args)`` now and return a handle to await later. Arguments and errors are those of ``run``."""
        return self._submit(fn, args, timeout, retries, priority, retry_on, fair_key, on_cancel)

    def map(
        self,
        fn: Callable[[Any], R],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        chunksize: int | Literal["auto"] = "auto",
        buffer: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
    ) -> AsyncIterator[R]:
        """Call ``fn`` with each item, many at a time: ``async for result in pool.map(fn, items)``.

        Items are taken only as results are consumed, so memory is bounded also for an endless iterable. A full queue
        makes it wait, not fail.

        Args:
            fn: A function of one argument.
            items: A plain or an asynchronous iterable.
            ordered: Results in the order of the items; else as they come.
            chunksize: Items per task. "auto" learns it, aiming at 10 ms a task.
            buffer: The most items that may be taken and not yet handed back. None: as many chunks as keep all
                workers busy.
            timeout: Seconds per chunk.
            retries: Per chunk, as for ``run``.
            priority: As for ``run``.

        Raises:
            Exception: The first exception of ``fn``; the rest is cancelled. And everything that ``run`` raises.

        Cancellation:
            Leaving the loop, by ``break`` too, cancels what is under way.
        """
        sizer, window = bulk_size(chunksize, buffer, self.max_workers)
        submit = functools.partial(self.submit, timeout=timeout, retries=retries, priority=priority)
        fn = fn.function if type(fn) is PoolTask else fn
        return map_chunks(submit, fn, items, sizer, window, ordered=ordered, go_on=False)

    async def gather(
        self,
        fn: Callable[[Any], R],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        return_exceptions: bool = False,
        chunksize: int | Literal["auto"] = "auto",
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
    ) -> list[R]:
        """Call ``fn`` with each item and return the results as a list, in order.

        Args:
            fn: A function of one argument.
            items: A finite iterable, plain or asynchronous.
            return_exceptions: Put what an item raised in its place, instead of raising it. If the worker of a chunk
                dies or the chunk passes its timeout, that error stands in the place of each of its items.
            chunksize: As for ``map``.
            timeout: Seconds per chunk.
            retries: Per chunk, as for ``run``.
            priority: As for ``run``.

        Raises:
            Exception: As for ``map``.

        Cancellation:
            Cancels what is under way.
        """
        sizer, window = bulk_size(chunksize, None, self.max_workers)
        submit = functools.partial(self.submit, timeout=timeout, retries=retries, priority=priority)
        fn = fn.function if type(fn) is PoolTask else fn
        results = map_chunks(submit, fn, items, sizer, window, ordered=True, go_on=return_exceptions)
        return [result async for result in results]

    @overload
    def task(self, function: Callable[P, T], /) -> PoolTask[P, T]: ...

    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[P, T]], PoolTask[P, T]]: ...

    def task(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Turn a plain function into one that runs in the pool and is awaited.

        ``@pool.task`` or ``@pool.task(timeout=2.0, retries=1)``; the options are those of ``run``. The plain function
        stays reachable as ``decorated.function``. Keyword arguments are the function's own.

        Raises:
            TypeError: If the function is local, or an option is unknown.
        """
        if function is not None:
            return PoolTask(self, function, options)
        return lambda function: PoolTask(self, function, options)

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

    def readiness(self) -> Readiness:
        """Whether this server should be sent requests, for a readiness probe.

        It says no from the moment that SIGTERM comes (if the pool's life is the app's lifespan), while the pool starts
        or drains, while no worker can be started, and while the queue is full.
        """
        statistics = self.statistics()
        crash = self._engine.crash_loop if self._engine is not None else None
        reasons = {
            "terminating": self._termination.terminating,
            statistics.state: statistics.state != PoolState.RUNNING.value,
            "crash-looping": crash is not None,
            "saturated": statistics.queued >= self.config.max_queue,
        }
        found = tuple(reason for reason, applies in reasons.items() if applies)
        return Readiness(not found, found)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _submit(
        self,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        timeout: float | None,
        retries: int,
        priority: int,
        retry_on: type[Exception] | tuple[type[Exception], ...],
        fair_key: str | None,
        on_cancel: OnCancel,
    ) -> TaskHandle[T]:
        engine = self._running_engine()
        if type(fn) is PoolTask:
            fn = fn.function
        seconds = self.config.timeout if timeout is None else timeout
        options = task_options(seconds, retries, priority, retry_on, fair_key, on_cancel)
        code = getattr(fn, "__code__", None)
        if code is not None and code.co_flags & inspect.CO_COROUTINE:
            raise TypeError(f"{fn.__qualname__} is async: it belongs on the event loop; pass a plain function")
        handle = engine.submit(fn, args, options)
        scope = current_scope.get()
        if scope is not None:
            scope.add(handle)
        return handle

    def _running_engine(self) -> Engine:
        engine = self._engine
        if engine is None:
            raise PoolClosed("the pool was never started", hint=NOT_STARTED_HINT)
        try:
            is_here = asyncio.get_running_loop() is engine.loop
        except RuntimeError:
            is_here = False
        if not is_here and engine.state is not PoolState.CLOSED:
            raise RuntimeError(
                "this pool belongs to another event loop: from a thread use "
                "asyncio.run_coroutine_threadsafe(pool.run(...), loop)"
            )
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


def _is_lifespan(candidate: Any) -> bool:
    """Whether this is a lifespan function rather than an app: a function of one argument (an ASGI app has three)."""
    if not inspect.isroutine(candidate) and not isinstance(candidate, functools.partial):
        return False
    return len(inspect.signature(candidate).parameters) == 1


__all__ = ["Pool", "PoolTask"]
