"""The metrics of jobs: read from their store when somebody asks, by whichever server process is asked.

All processes on one store would say the same, so these numbers are not added up and not written to files. Nothing here
imports ``lifepool.jobs``: what stands for them is among the hooks of the pool that they run in.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool.hooks import Hook
from lifepool.instrumentation.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lifepool.hooks import WatchedPool
    from lifepool.instrumentation.metrics import Gauges

JOBS = Metric("lifepool_jobs", "gauge", "Jobs in the store by state.", ("pool", "state"), highest=True)
OLDEST = Metric(
    "lifepool_jobs_oldest_queued_seconds",
    "gauge",
    "Seconds that the oldest job that may start now has been waiting.",
    highest=True,
)
STORE_UP = Metric("lifepool_jobs_store_up", "gauge", "Whether the store of the jobs can be read: 1 or 0.", highest=True)

#: All of them; exposed only for pools in which jobs run.
JOB_METRICS = (JOBS, OLDEST, STORE_UP)
JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled", "lost")


@dataclass(frozen=True, slots=True)
class JobCounts:
    """The jobs of a store at one moment.

    Attributes:
        states: How many jobs are in each state; a state without jobs may be missing.
        oldest_queued_s: Seconds for which the oldest job that may start now has been waiting; None if there is none.
    """

    states: Mapping[str, int]
    oldest_queued_s: float | None


class JobsHook(Hook):
    """Stand for the jobs that run in a pool, among its hooks; ``lifepool.jobs`` has the one kind there is."""

    def counts_within(self, seconds: float) -> JobCounts | None:
        """Return the numbers of the store, a few seconds old at most; None if it can't be read now.

        From any thread. On the event loop's own, where waiting would block it, these are the numbers of the last look,
        and a new one is begun.

        Args:
            seconds: How long to wait.
        """
        raise NotImplementedError


def has_jobs(pool: WatchedPool | None) -> bool:
    """Tell whether jobs run in a pool."""
    return pool is not None and any(isinstance(hook, JobsHook) for hook in pool.hooks)


def job_gauges(pools: Iterable[WatchedPool | None], patience_s: float) -> Gauges:
    """Return the gauges of the jobs of these pools.

    Args:
        pools: The pools that run now.
        patience_s: Seconds to wait for all their stores together. What can't be read by then is missing, and its
            ``lifepool_jobs_store_up`` is 0.
    """
    deadline = time.monotonic() + patience_s
    found: Gauges = {}
    for pool in pools:
        for hook in pool.hooks if pool is not None else ():
            if pool is not None and isinstance(hook, JobsHook):
                counts = hook.counts_within(max(0.0, deadline - time.monotonic()))
                _add(found, pool.config.name, counts)
    return found


def _add(found: Gauges, pool: str, counts: JobCounts | None) -> None:
    """Add the numbers of one store; of several stores of one pool's name the sums."""
    up = found.get((STORE_UP, (pool,)), 1.0)
    found[STORE_UP, (pool,)] = 0.0 if counts is None else up
    if counts is None:
        return
    for state in JOB_STATES:
        key = (JOBS, (pool, state))
        found[key] = found.get(key, 0.0) + counts.states.get(state, 0)
    oldest = (OLDEST, (pool,))
    found[oldest] = max(found.get(oldest, 0.0), counts.oldest_queued_s or 0.0)
