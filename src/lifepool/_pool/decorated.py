"""Functions that run in a pool when they are called: what ``@pool.task`` and ``@pool.batch`` make of them."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from lifepool._batching.collector import BATCHES_PER_WORKER, Batcher, BatchPlan, check_plan
from lifepool._pool.options import task_options
from lifepool._pool.scope import current_scope
from lifepool._transfer.grouped import BatchFunction, GroupResult
from lifepool._transfer.naming import name_of
from lifepool._transfer.reference import Reference
from lifepool._usercode.callables import check_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lifepool._engine.handle import TaskHandle
    from lifepool.pool import Pool

T = TypeVar("T")
X = TypeVar("X")
Y = TypeVar("Y")
P = ParamSpec("P")


class PoolTask(Generic[P, T]):
    """A function that runs in a pool when it is called; made by ``Pool.task``.

    Attributes:
        function: The plain function, for a direct call.
    """

    __name__: str

    def __init__(self, pool: Pool, function: Callable[P, T], options: Mapping[str, Any]) -> None:
        _check_options("task", options, _TASK_OPTIONS)
        check_function(function)
        self._pool = pool
        self._options = dict(options)
        self._reference = Reference(function)
        functools.update_wrapper(self, function)
        self.function: Callable[..., T] = self._reference

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in the pool; see ``Pool.run``."""
        return await self._pool.run(self._with(kwargs), *args, **self._options)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[T]:
        """Queue it now and return a handle to await later."""
        return self._pool.submit(self._with(kwargs), *args, **self._options)

    def _with(self, kwargs: Mapping[str, Any]) -> Callable[..., T]:
        if not kwargs:
            return self._reference
        if kwargs.keys() & _TASK_OPTIONS:
            self._check_keywords(kwargs)
        return functools.partial(self._reference, **kwargs)

    def _check_keywords(self, kwargs: Mapping[str, Any]) -> None:
        """Refuse options of the pool, unless the function has parameters of such names."""
        parameters = inspect.signature(self._reference.__wrapped__).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        if alien := sorted(kwargs.keys() & _TASK_OPTIONS - parameters.keys()):
            name = self.__name__
            raise TypeError(
                f"{name}() has no parameter {alien[0]}: options of the pool go to the decorator, as in "
                f"@pool.task({alien[0]}=...), or to pool.run({name}, ..., {alien[0]}=...)"
            )


_BATCH_DEFAULTS: dict[str, Any] = {
    "timeout": None, "retries": 0, "priority": 0, "retry_on": (), "fair_key": None, "on_cancel": "interrupt",
}  # fmt: skip
#: The keywords of ``Pool.run``.
_TASK_OPTIONS = frozenset({*_BATCH_DEFAULTS, "copy"})
#: What makes sense for many callers at once. ``retry_on`` does not: one item's exception is one caller's.
_BATCH_OPTIONS = _BATCH_DEFAULTS.keys() - {"retry_on"}


class PoolBatch(Generic[X, Y]):
    """A function on lists that is called with one item and awaited for its result; made by ``Pool.batch``.

    Attributes:
        function: The plain function on a list, for a direct call.
    """

    __name__: str

    def __init__(
        self,
        pool: Pool,
        function: Callable[[list[X]], Iterable[Y]],
        *,
        max_size: int,
        max_wait: float,
        split_on_error: bool,
        options: Mapping[str, Any],
    ) -> None:
        check_plan(max_size, max_wait)
        _check_options("batch", options, _BATCH_OPTIONS)
        task_options(**{**_BATCH_DEFAULTS, **options})
        if not inspect.isgeneratorfunction(function):  # what it yields are the results
            check_function(function)
        self._pool = pool
        self._options = {key: value for key, value in options.items() if key != "timeout"}
        self._timeout: float | None = options.get("timeout")
        self._batched = BatchFunction(function)
        self._size, self._wait, self._split = max_size, max_wait, split_on_error
        self._batcher: Batcher | None = None
        functools.update_wrapper(self, function)
        self.function: Callable[[list[X]], Iterable[Y]] = Reference(function)

    async def __call__(self, item: X, /) -> Y:
        """Have the item done with others in one task, and return its result; see ``Pool.batch``."""
        call = self._current_batcher().add(item)
        scope = current_scope.get()
        if scope is not None:
            scope.add(call)
        result: Y = await call
        return result

    @property
    def waiting(self) -> int:
        """Calls that wait for their batch to leave."""
        return 0 if self._batcher is None else self._batcher.waiting

    def flush(self) -> None:
        """Send what waits now. The pool does this by itself when it drains.

        Raises:
            RuntimeError: If the pool's event loop runs in another thread.
        """
        self._pool._must_be_here()
        self._flush()

    def _flush(self) -> None:
        if self._batcher is not None and not self._batcher.loop.is_closed():
            self._batcher.flush()

    def _current_batcher(self) -> Batcher:
        engine = self._pool._running_engine()
        if self._batcher is None or self._batcher.engine is not engine:  # the pool was started anew
            self._batcher = Batcher(engine, self._submit, self._plan())
        return self._batcher

    def _plan(self) -> BatchPlan:
        config = self._pool.config
        timeout = config.timeout if self._timeout is None else self._timeout
        return BatchPlan(
            name=name_of(self._batched),
            max_size=self._size,
            max_wait=self._wait,
            timeout=float("inf") if timeout is None else timeout,
            max_waiting=config.max_queue,
            window=BATCHES_PER_WORKER * config.max_workers,
        )

    def _submit(self, items: list[Any], *, timeout: float) -> TaskHandle[GroupResult]:
        return self._pool.submit(self._batched, items, self._split, timeout=timeout, **self._options)


def _check_options(decorator: str, options: Mapping[str, Any], known: set[str] | frozenset[str]) -> None:
    if unknown := options.keys() - known:
        raise TypeError(f"@pool.{decorator} does not know {sorted(unknown)}; it takes {sorted(known)}")


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
