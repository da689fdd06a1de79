"""What stands for running jobs among the hooks of their pool: there the metrics and the live page find them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lifepool.errors import PoolError
from lifepool.instrumentation.jobs import JobCounts, JobsHook

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from lifepool.jobs.records import Job
    from lifepool.jobs.store.overview import Overview
    from lifepool.jobs.store.store import Store

logger: logging.Logger = logging.getLogger("lifepool")

T = TypeVar("T")

#: Seconds for which an answer counts as new: that of a scrape, that of the live page.
COUNTS_S, OVERVIEW_S = 2.0, 0.5
#: A query that takes long is asked so many times as seldom: it takes 5 % of the reader's time at most.
_REST = 20.0


class Recent(Generic[T]):
    """Ask a query once for all who want its answer, and keep that for a while.

    Args:
        query: What is asked; it ends, or fails, by itself.
        seconds: For how long its answer is kept; longer if the query takes long.

    Attributes:
        last: The last answer; None if there is none yet, or the last query failed.
    """

    def __init__(self, query: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> None:
        self.last: T | None = None
        self._query = query
        self._seconds = seconds
        self._until = 0.0
        self._asking: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return an answer that is new enough; what the query raises, this raises.

        Cancellation:
            The query goes on: others may wait for it.
        """
        if self._asking is None and self.last is not None and time.monotonic() < self._until:
            return self.last
        return await asyncio.shield(self.begin())

    def begin(self) -> asyncio.Task[T]:
        """Begin to ask, unless that is under way."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
            self._asking.add_done_callback(_look_at)
        return self._asking

    async def _ask(self) -> T:
        began = time.monotonic()
        try:
            found = await self._query()
        except BaseException:
            self.last = None
            raise
        finally:
            self._asking = None
        self.last = found
        now = time.monotonic()
        self._until = now + max(self._seconds, _REST * (now - began))
        return found


def _look_at(task: asyncio.Task[Any]) -> None:
    """Take note of an exception, also if nobody waits for it any more: else the event loop would complain."""
    if not task.cancelled():
        task.exception()


class RunningJobs(JobsHook):
    """The jobs that run in one pool, for as long as they do.

    Args:
        store: It is open.
        wake: Called when there is work.
    """

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._counts = Recent(self._count, COUNTS_S)
        self._overview = Recent(store.overview, OVERVIEW_S)
        self._counts.begin()  # so that there is something to show to who can't wait

    async def overview(self) -> Overview:
        """Return what is going on in the store, half a second old at most, or as long as the query took, twentyfold.

        Raises:
            StoreError: If the store can't be used.
        """
        return await self._overview.get()

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job: see ``Jobs.cancel``."""
        return await self._store.cancel(job_id)

    async def retry(self, job_id: str) -> Job:
        """Queue a job again: see ``Jobs.retry``."""
        job = await self._store.retry(job_id)
        self._wake()
        return job

    def counts_within(self, seconds: float) -> JobCounts | None:
        """Return the numbers of the store: see ``JobsHook``."""
        if threading.get_ident() == self._thread:
            self._counts.begin()
            return self._counts.last
        getting = self._counts.get()
        try:
            asked = asyncio.run_coroutine_threadsafe(getting, self._loop)
        except RuntimeError:  # the event loop is closed
            getting.close()
            return None
        try:
            return asked.result(seconds)
        except (TimeoutError, PoolError, concurrent.futures.CancelledError) as error:
            asked.cancel()
            logger.debug("the job store could not be counted in time", exc_info=error)
        except Exception:  # a scrape is answered in any case
            logger.exception("the job store could not be counted")
        return None

    async def _count(self) -> JobCounts:
        return JobCounts(*await self._store.counts())
