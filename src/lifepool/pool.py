"""``Pool``: the one class users meet."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

from lifepool._engine.options import TaskOptions, task_options
from lifepool._engine.scope import current_scope
from lifepool._inside.resources import Resource
from lifepool._pool.bulk_calls import PoolBulk
from lifepool._pool.decorated import PoolBatch, PoolTask, decorator_options, plain_function
from lifepool._pool.from_thread import FromThread
from lifepool._pool.settings import takes_settings
from lifepool._transfer.naming import names_of
from lifepool._transfer.reference import Reference
from lifepool._usercode.callables import UNFINISHED, check_function, refuse_keywords
from lifepool.config import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from lifepool._engine.engine import Engine
    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.options import BatchOptions, OnCancel, RunOptions
    from lifepool._pool.decorated import MakesResource
    from lifepool.config import PoolSettings

T = TypeVar("T")
X = TypeVar("X")
Y = TypeVar("Y")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


@takes_settings
class Pool(PoolBulk):
    """A process pool that lives as long as your app.

    Nothing starts when it is made. It starts with the app (``install(app, pool)``, ``FastAPI(lifespan=pool.lifespan)``)
    or with ``async with pool:``, belongs to that event loop, and ends with it; after that it can be started
    again. Every argument can also be given as ``LIFEPOOL_<NAME>`` in the environment; an explicit argument wins.

    Args:
        **settings: The settings of ``lifepool.config.PoolSettings``.

    Raises:
        ValueError: If an argument or its environment variable has a value that makes no sense.
        TypeError: If an argument has a wrong type.
        BackendUnsupported: If this version has no such backend.
    """

    def __init__(self, **settings: Unpack[PoolSettings]) -> None:
        super().__init__(resolve(settings))
        if callable(self.config.initializer):
            check_function(self.config.initializer)
        self._options = TaskOptions(timeout=self.config.timeout)  # of tasks that were given none

    # -- tasks ----------------------------------------------------------------------------------------------------

    @overload
    async def run(
        self, fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], *args: *Ts, **options: Unpack[RunOptions]
    ) -> T: ...

    @overload
    async def run(self, fn: Callable[[Unpack[Ts]], T], *args: *Ts, **options: Unpack[RunOptions]) -> T: ...

    async def run(
        self,
        fn: Callable[[Unpack[Ts]], Any],
        *args: *Ts,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (),
        fair_key: str | None = None,
        on_cancel: OnCancel = "interrupt",
        copy: bool = True,
        **keywords: Never,
    ) -> Any:
        """Call ``fn(*args)`` in a worker and wait for the answer.

        Keywords are the pool's; the function's own go through ``functools.partial``. What the function raises is raised
        here as itself, with the worker's traceback as its cause.

        Args:
            fn: A function that a worker can import: defined at the top level of a module.
            *args: Its arguments; they are pickled. Big ones (2 MiB and more) of built-in types or numpy arrays are
                copied in a thread meanwhile: leave them as they are until this returns.
            timeout: Seconds from now, waiting included; the task is interrupted then, and its worker killed if that
                does not help. None: the pool's default. ``math.inf``: no limit.
            retries: How often to run it again if its worker dies, or if it raises one of ``retry_on``.
            priority: Higher goes first: each step counts like a second of waiting, so nobody starves.
            retry_on: Exception types after which it is worth running again.
            fair_key: Tasks of different keys take turns, and no key can fill the queue.
            on_cancel: ``"interrupt"``: if nobody waits any more, a running task is interrupted. ``"abandon"``: it goes
                on, its answer is dropped.
            copy: False: buffers of numpy arrays, arrow tables and ``pickle.PickleBuffer`` are not copied in the worker:
                it gets read-only views of shared memory. See the how-to about large arrays.
            **keywords: None: those of the function go through ``functools.partial``.

        Raises:
            TypeError: If the function is async or a generator function, or a keyword is none of these.
            PoolClosed: If the pool does not run.
            QueueFull: If there is no room, or the predicted wait is longer than the timeout.
            TaskTimeout: If the timeout passed.
            TaskNotPicklable: If the function, an argument or the result can't be sent; names the part.
            PayloadTooLarge: If arguments or result are above ``max_payload``.
            WorkerLost: If the worker died while it ran the task.
            WorkerStartError: If no worker can be started.
            BackendUnsupported: If ``copy=False``, and the backend has no views.

        Cancellation:
            See ``on_cancel``. A task that still waits is dropped at once.
        """
        if keywords:
            refuse_keywords("run", keywords, Pool.run)
        options = task_options(
            self._options,
            timeout=timeout,
            retries=retries,
            priority=priority,
            retry_on=retry_on,
            fair_key=fair_key,
            on_cancel=on_cancel,
            copy=copy,
        )
        return await self._submit(fn, args, options, lent=True)

    @overload
    def submit(
        self, fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], *args: *Ts, **options: Unpack[RunOptions]
    ) -> TaskHandle[T]: ...

    @overload
    def submit(self, fn: Callable[[Unpack[Ts]], T], *args: *Ts, **options: Unpack[RunOptions]) -> TaskHandle[T]: ...

    def submit(
        self,
        fn: Callable[[Unpack[Ts]], Any],
        *args: *Ts,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (),
        fair_key: str | None = None,
        on_cancel: OnCancel = "interrupt",
        copy: bool = True,
        **keywords: Never,
    ) -> TaskHandle[Any]:
        """Queue ``fn(*args)`` now and return a handle to await later. Arguments and errors are those of ``run``.

        The arguments are yours again when this returns. So what could be changed is pickled before, on the event loop,
        whatever its size; only ``bytes``, ``str`` and tuples of them are copied in a thread if they are big.
        """
        if keywords:
            refuse_keywords("submit", keywords, Pool.submit)
        options = task_options(
            self._options,
            timeout=timeout,
            retries=retries,
            priority=priority,
            retry_on=retry_on,
            fair_key=fair_key,
            on_cancel=on_cancel,
            copy=copy,
        )
        return self._submit(fn, args, options, lent=False)

    def cancel(self, task: int) -> bool:
        """Take a task back by its number (``TaskHandle.id``), as ``TaskHandle.cancel`` does. From any thread.

        Returns:
            Whether it had no outcome yet.
        """
        engine = self._engine
        return engine is not None and engine.cancel_task(task)

    @overload
    def task(self, function: Callable[P, T], /) -> PoolTask[P, T]: ...

    @overload
    def task(self, /, **options: Unpack[RunOptions]) -> Callable[[Callable[P, T]], PoolTask[P, T]]: ...

    def task(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Turn a plain function into one that runs in the pool and is awaited.

        ``@pool.task`` or ``@pool.task(timeout=2.0, retries=1)``; the options are those of ``run``. The plain function
        stays reachable as ``decorated.function``. Keyword arguments are the function's own.

        Raises:
            TypeError: If the function is local, or an option is unknown.
            ValueError: If an option has a value that makes no sense.
        """

        def decorate(function: Callable[..., Any]) -> PoolTask[..., Any]:
            own = decorator_options("task", self._options, options)
            made: PoolTask[..., Any] = PoolTask(function, self._submit, own)
            self._runtime.declared.modules[made.__module__] = None
            return made

        return decorate if function is None else decorate(function)

    @overload
    def batch(self, function: Callable[[list[X]], Iterable[Y]], /) -> PoolBatch[X, Y]: ...

    @overload
    def batch(
        self,
        /,
        *,
        max_size: int = 32,
        max_wait: float = 0.005,
        split_on_error: bool = True,
        **options: Unpack[BatchOptions],
    ) -> Callable[[Callable[[list[X]], Iterable[Y]]], PoolBatch[X, Y]]: ...

    def batch(
        self,
        function: Callable[[list[Any]], Iterable[Any]] | None = None,
        /,
        *,
        max_size: int = 32,
        max_wait: float = 0.005,
        split_on_error: bool = True,
        **options: Any,
    ) -> Any:
        """Turn a function on a list into one that is awaited for one item; concurrent calls share a task.

        A batch leaves at once if a worker is free and none is under way, else when that comes back, when it is full or
        when ``max_wait`` has passed; at most two batches for each worker are in the pool at a time, so that under load
        batches grow rather than the queue. The function returns one result for each item, in order. An exception that
        it returns as a result is raised for that caller alone.

        Args:
            function: A module-level function from a list to as many results; it should not mind being called again
                with the same items.
            max_size: Items in one batch at most.
            max_wait: Seconds that a call waits for company at most, unless two batches for each worker are under way.
            split_on_error: If the function raises, call it again with each item by itself, in the same task, so that
                one bad item does not fail the others. False: every caller gets the exception.
            **options: ``timeout`` (of each call, from its beginning), ``retries`` (of the batch, if its worker dies),
                ``priority``, ``fair_key`` and ``on_cancel``, as for ``run``.

        Raises:
            TypeError: If the function is local or async, or an option is unknown.
            ValueError: If ``max_size``, ``max_wait`` or an option makes no sense.

        Cancellation:
            A cancelled call is taken out of its batch or, if that has left, its answer is dropped. When no caller is
            left the batch is cancelled, as by ``on_cancel``.
        """

        def decorate(function: Callable[[list[Any]], Iterable[Any]]) -> PoolBatch[Any, Any]:
            made: PoolBatch[Any, Any] = PoolBatch(
                function,
                self._runtime,
                self._submit,
                decorator_options("batch", self._options, options),
                max_size=max_size,
                max_wait=max_wait,
                split_on_error=split_on_error,
            )
            self._runtime.declared.add_batch(made._flush)
            self._runtime.declared.modules[made.__module__] = None
            return made

        return decorate if function is None else decorate(function)

    @overload
    def resource(self, function: Callable[[], Iterator[T]], /) -> Resource[T]: ...

    @overload
    def resource(self, function: Callable[[], T], /) -> Resource[T]: ...

    @overload
    def resource(self, /, *, eager: bool) -> MakesResource: ...

    def resource(self, function: Callable[[], Any] | None = None, /, *, eager: bool = False) -> Any:
        """Have something loaded once in each worker: ``@pool.resource def model() -> Model: ...``.

        In tasks ``model()`` is the value, the same one each time in a worker. It is loaded when it is first asked for;
        a worker that replaces another loads its own. Outside of workers, too, the process that asks loads it, once.

        Args:
            function: Loads it; takes no arguments. A generator yields it once; what comes after the ``yield`` cleans
                up when the worker exits normally (it is not killed), within 2 s.
            eager: Load it before the worker is ready. If that fails the pool does not start.

        Raises:
            TypeError: If the function is local or async, or takes arguments.
        """

        def decorate(function: Callable[[], Any]) -> Resource[Any]:
            made: Resource[Any] = Resource(function, eager=eager)
            self._runtime.add_resource(made)
            return made

        return decorate if function is None else decorate(function)

    @property
    def from_thread(self) -> FromThread:
        """Return the way in from threads: ``pool.from_thread.run(fn, ...)`` blocks until the task is done.

        In FastAPI that is what sync ``def`` endpoints use, which run in threads.
        """
        return FromThread(self._runtime, self.run)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _submit(
        self, fn: Callable[..., T], args: tuple[Any, ...], options: TaskOptions, *, lent: bool
    ) -> TaskHandle[T]:
        """Check the function, and queue the call."""
        engine = self._runtime.running_engine()
        if type(fn) is PoolTask:
            fn = fn.function
        if type(fn) is FunctionType:
            if fn.__code__.co_flags & UNFINISHED:
                check_function(fn)
        elif not isinstance(fn, Reference):  # those are checked when they are made
            plain_function(fn)
        return self._start(engine, fn, args, options, lent=lent)

    def _start(
        self, engine: Engine, fn: Callable[..., T], args: tuple[Any, ...], options: TaskOptions, *, lent: bool = False
    ) -> TaskHandle[T]:
        """Name the task, queue it, and let it share the fate of the request that it belongs to."""
        handle = engine.submissions.submit(fn, args, options, names_of(fn), lent=lent)
        scope = current_scope.get()
        if scope is not None:
            scope.add(handle)
        return handle


__all__ = ["Pool", "PoolTask"]
