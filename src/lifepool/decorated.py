"""Functions that run in a pool when they are called: what ``@pool.task`` makes of them."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from lifepool.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lifepool._engine.handle import TaskHandle
    from lifepool.pool import Pool

T = TypeVar("T")
P = ParamSpec("P")


class PoolTask(Generic[P, T]):
    """A function that runs in a pool when it is called; made by ``Pool.task``.

    Attributes:
        function: The plain function, for a direct call.
    """

    __name__: str

    def __init__(self, pool: Pool, function: Callable[P, T], options: Mapping[str, Any]) -> None:
        known = inspect.signature(pool.submit).parameters.keys() - {"fn", "args"}
        if unknown := options.keys() - known:
            raise TypeError(f"@pool.task does not know {sorted(unknown)}; it takes {sorted(known)}")
        self._pool = pool
        self._options = dict(options)
        self._reference = Reference(function)
        functools.update_wrapper(self, function)
        self.function: Callable[..., T] = self._reference

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in the pool; see ``Pool.run``."""
        return await self.submit(*args, **kwargs)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[T]:
        """Queue it now and return a handle to await later."""
        fn: Callable[..., T] = self._reference
        if kwargs:
            fn = functools.partial(fn, **kwargs)
        return self._pool.submit(fn, *args, **self._options)
