"""Functions that become jobs when they are called: what ``@jobs.job`` makes of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from lifepool._transfer.reference import Reference
from lifepool._usercode.callables import check_function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lifepool.jobs.records import Job

P = ParamSpec("P")
T = TypeVar("T")

#: The keywords of ``Jobs.submit``.
JOB_OPTIONS = frozenset({
    "idempotency_key", "timeout", "retries", "max_attempts", "keep", "priority", "run_at", "limit_key", "limit", "tags",
    "name", "on_done",
})  # fmt: skip


class Submits(Protocol):
    """What a decorated function needs of the jobs."""

    async def submit(self, fn: Any, /, *args: Any, **options: Any) -> Job:
        """Store a call."""


class JobFunction(Generic[P, T]):
    """A function that is stored as a job when it is called; made by ``Jobs.job``.

    Attributes:
        function: The plain function, for a direct call.
    """

    __name__: str

    def __init__(self, jobs: Submits, function: Callable[P, T], options: Mapping[str, Any]) -> None:
        if unknown := options.keys() - JOB_OPTIONS:
            raise TypeError(f"@jobs.job does not know {sorted(unknown)}; it takes {sorted(JOB_OPTIONS)}")
        check_function(function)
        self._jobs = jobs
        self._options = dict(options)
        self._reference = Reference(function)
        functools.update_wrapper(self, function)
        self.function: Callable[..., T] = self._reference

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Store the call as a job; see ``Jobs.submit``."""
        call = functools.partial(self._reference, **kwargs) if kwargs else self._reference
        return await self._jobs.submit(call, *args, **self._options)

    def options(self, **options: Any) -> JobFunction[P, T]:
        """Return the same with other options: ``await build.options(idempotency_key=key)(order)``."""
        return JobFunction(self._jobs, self._reference.__wrapped__, {**self._options, **options})
