"""Functions that run in a pool when they are called: what ``@pool.task`` and ``@pool.batch`` make of them."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload

from lifepool._batching.collector import BATCHES_PER_WORKER, Batcher, BatchPlan, check_plan
from lifepool._engine.options import OPTION_NAMES, task_options
from lifepool._engine.scope import current_scope
from lifepool._transfer.grouped import BatchFunction, GroupResult
from lifepool._transfer.naming import name_of
from lifepool._transfer.reference import Reference
from lifepool._usercode.attributes import signature_of
from lifepool._usercode.callables import check_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.options import TaskOptions
    from lifepool._inside.resources import Resource
    from lifepool._pool.runtime import PoolRuntime

T = TypeVar("T")
X = TypeVar("X")
Y = TypeVar("Y")
P = ParamSpec("P")


class Submit(Protocol):
    """Put a task into a pool."""

    def __call__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], options: TaskOptions, *, lent: bool
    ) -> TaskHandle[Any]:
        """Queue ``fn(*args)``; ``lent`` says that the arguments stay as they are until the task is done."""


class MakesResource(Protocol):
    """The decorator that ``pool.resource(eager=...)`` returns."""

    @overload
    def __call__(self, function: Callable[[], Iterator[T]], /) -> Resource[T]: ...

    @overload
    def __call__(self, function: Callable[[], T], /) -> Resource[T]: ...


class PoolTask(Generic[P, T]):
    """A function that runs in a pool when it is called; made by ``Pool.task``.

    Attributes:
        function: The plain function, for a direct call.
    """

    __name__: str

    def __init__(self, function: Callable[P, T], submit: Submit, options: TaskOptions) -> None:
        check_function(function)
        self._submit = submit
        self._options = options
        self._reference = Reference(function)
        functools.update_wrapper(self, function)
        self.function: Callable[..., T] = self._reference

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in the pool; see ``Pool.run``."""
        result: T = await self._submit(self._with(kwargs), args, self._options, lent=True)
        return result

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[T]:
        """Queue it now and return a handle to await later."""
        return self._submit(self._with(kwargs), args, self._options, lent=False)

    def _with(self, kwargs: Mapping[str, Any]) -> Callable[..., T]:
        if not kwargs:
            return self._reference
        if kwargs.keys() & OPTION_NAMES:
            self._check_keywords(kwargs)
        return functools.partial(self._reference, **kwargs)

    def _check_keywords(self, kwargs: Mapping[str, Any]) -> None:
        """Refuse options of the pool, unless the function has parameters of such names."""
        parameters = signature_of(self._reference.__wrapped__).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        if unknown := sorted(kwargs.keys() & OPTION_NAMES - parameters.keys()):
            name = self.__name__
            raise TypeError(
                f"{name}() has no parameter {unknown[0]}: options of the pool go to the decorator, as in "
                f"@pool.task({unknown[0]}=...), or to pool.run({name}, ..., {unknown[0]}=...)"
            )


#: What makes sense for many callers at once. ``retry_on`` does not: one item's exception is one caller's.
_BATCH_OPTIONS = OPTION_NAMES - {"retry_on", "copy"}


def decorator_options(decorator: str, default: TaskOptions, given: Mapping[str, Any]) -> TaskOptions:
    """Check the options that were given to a decorator, once for all of its calls.

    Raises:
        TypeError: If there is one that the decorator does not know.
        ValueError: If a value makes no sense.
    """
    known = _BATCH_OPTIONS if decorator == "batch" else OPTION_NAMES
    if unknown := given.keys() - known:
        raise TypeError(f"@pool.{decorator} does not know {sorted(unknown)}; it takes {sorted(known)}")
    return task_options(default, **given)


class PoolBatch(Generic[X, Y]):
    """A function on lists that is called with one item and awaited for its result; made by ``Pool.batch``.

    Attributes:
        function: The plain function on a list, for a direct call.
    """

    __name__: str

    def __init__(
        self,
        function: Callable[[list[X]], Iterable[Y]],
        runtime: PoolRuntime,
        submit: Submit,
        options: TaskOptions,
        *,
        max_size: int,
        max_wait: float,
        split_on_error: bool,
    ) -> None:
        check_plan(max_size, max_wait)
        if not inspect.isgeneratorfunction(function):  # what it yields are the results
            check_function(function)
        self._runtime = runtime
        self._submit_task = submit
        self._options = options
        self._batched = BatchFunction(function)
        self._size, self._wait, self._split = max_size, max_wait, split_on_error
        self._batcher: Batcher | None = None
        functools.update_wrapper(self, function)
        self.function: Callable[[list[X]], Iterable[Y]] = Reference(function)

    async def __call__(self, item: X, /) -> Y:
        """Run the item together with others in one task, and return its result; see ``Pool.batch``."""
        call = self._current_batcher().add(item)
        scope = current_scope.get()
        if scope is not None:
            scope.add(call)
        result: Y = await call
        return result

    @property
    def waiting(self) -> int:
        """Return how many calls wait for their batch to leave."""
        return 0 if self._batcher is None else self._batcher.waiting

    def flush(self) -> None:
        """Send what waits now. The pool does this by itself when it drains.

        Raises:
            RuntimeError: If the pool's event loop runs in another thread.
        """
        self._runtime.check_here()
        self._flush()

    def _flush(self) -> None:
        if self._batcher is not None and not self._batcher.loop.is_closed():
            self._batcher.flush()

    def _current_batcher(self) -> Batcher:
        engine = self._runtime.running_engine()
        if self._batcher is None or self._batcher.engine is not engine:  # the pool was started anew
            self._batcher = Batcher(engine, self._submit, self._plan())
        return self._batcher

    def _plan(self) -> BatchPlan:
        config, timeout = self._runtime.config, self._options.timeout
        return BatchPlan(
            name=name_of(self._batched),
            max_size=self._size,
            max_wait=self._wait,
            timeout=float("inf") if timeout is None else timeout,
            max_waiting=config.max_queue,
            window=BATCHES_PER_WORKER * config.max_workers,
        )

    def _submit(self, items: list[Any], *, timeout: float) -> TaskHandle[GroupResult]:
        return self._submit_task(self._batched, (items, self._split), self._options.within(timeout), lent=False)


def plain_function(fn: Any) -> Callable[..., Any]:
    """Return what is to be called for it in a worker.

    Raises:
        TypeError: If that can't be called there.
    """
    if type(fn) is PoolTask:
        function: Callable[..., Any] = fn.function
        return function
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    if isinstance(inner, (PoolTask, PoolBatch)):
        name = inner.__name__
        if isinstance(inner, PoolBatch):
            raise TypeError(f"{name} is a batch: 'await {name}(item)', or run {name}.function")
        raise TypeError(
            f"{name} runs in the pool by itself: 'await {name}(...)', or put {name}.function in the partial"
        )
    check_function(fn)
    plain: Callable[..., Any] = fn
    return plain
