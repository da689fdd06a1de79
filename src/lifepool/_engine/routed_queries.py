"""Answer what can be asked of an engine with two backends, from any thread."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lifepool._core.breaker import BreakerState
from lifepool._core.states import TASK_COMPLETED
from lifepool._engine.queries import Queries, QueueLoad
from lifepool._engine.snapshot import Traffic, pool_statistics, read_consistently, worker_snapshot
from lifepool.statistics import BackendStatistics, HistogramSnapshot, RoutingStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.routing import RoutedScheduler
    from lifepool._core.states import PoolState
    from lifepool._engine.handle import TaskHandle
    from lifepool.backends.routed import RoutedBackend
    from lifepool.statistics import PoolStatistics, WorkerSnapshot


class RoutedQueries(Queries):
    """What can be asked of one engine with two backends. The numbers of the two are added up.

    Args:
        scheduler: Knows tasks and workers of both.
        backend: As for ``Queries``.
        handles: As for ``Queries``.
        traffic: As for ``Queries``.
        clock: As for ``Queries``.
    """

    def __init__(
        self,
        scheduler: RoutedScheduler,
        backend: RoutedBackend,
        handles: dict[int, TaskHandle[Any]],
        traffic: Traffic,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(scheduler.local, backend, handles, traffic, clock)
        self._both = scheduler

    @property
    def unreachable(self) -> str | None:
        """Return None: without its cluster the pool is degraded, and takes tasks."""
        return None

    @property
    def has_free_worker(self) -> bool:
        """Whether a task that is submitted now starts at once where it goes first."""
        return self._both.first.fleet.free_worker() is not None

    @property
    def running(self) -> int:
        """Return how many tasks without an outcome are with a worker, or with the cluster."""
        return self._both.running

    @property
    def waiting(self) -> int:
        """Return how many tasks without an outcome wait."""
        return self._both.waiting

    def load(self) -> QueueLoad:
        """Return how much waits where a task goes first; on the event loop's thread only."""
        both = self._both
        completed = sum(side.tally.outcomes[TASK_COMPLETED] for side in (both.local, both.remote))
        return self._load_of(both, completed)

    def statistics(self, state: PoolState) -> PoolStatistics:
        """Return the numbers of a pool that is in this state."""
        scheduler, now = self._both, self._clock()

        def read() -> PoolStatistics:
            local = pool_statistics(scheduler.local, state, now, self._traffic, self._cluster())
            return _together(local, pool_statistics(scheduler.remote, state, now, Traffic()), scheduler)

        return read_consistently(read)

    def workers(self, *, memory: bool = True) -> tuple[WorkerSnapshot, ...]:
        """Return what each worker of this machine does, and last the cluster as a whole."""
        of_cluster = self._both.remote.fleet

        def read() -> tuple[WorkerSnapshot, ...]:
            now = self._clock()
            return tuple(worker_snapshot(each, self._handles, None, now, memory=False) for each in of_cluster)

        return super().workers(memory=memory) + read_consistently(read)


def _together(local: PoolStatistics, remote: PoolStatistics, scheduler: RoutedScheduler) -> PoolStatistics:
    """Add up what can be added up; the workers and the predicted wait are those of this machine."""
    added = ("queued", "running", "submitted", "refused", "retried", "completed", "failed", "cancelled", "timed_out")
    sums = {name: getattr(local, name) + getattr(remote, name) for name in (*added, "lost", "worker_s", "busy_s")}
    run, breaker = _plus(local.run, remote.run), scheduler.breaker
    return replace(
        local,
        **sums,
        wait=_plus(local.wait, remote.wait),
        run=run,
        utilisation=min(1.0, run.sum / sums["worker_s"]) if sums["worker_s"] > 0 else 0.0,
        routing=RoutingStatistics(
            mode="fallback" if scheduler.prefers_remote else "overflow",
            breaker=breaker.state.value,
            breaker_reason=None if breaker.state is BreakerState.CLOSED else breaker.reason,
            breaker_opened=breaker.opened,
            moved=scheduler.moved,
            local=_of_backend(local),
            remote=_of_backend(remote),
        ),
    )


def _plus(one: HistogramSnapshot, other: HistogramSnapshot) -> HistogramSnapshot:
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return HistogramSnapshot(one.bounds, counts, one.sum + other.sum)


def _of_backend(numbers: PoolStatistics) -> BackendStatistics:
    return BackendStatistics(
        queued=numbers.queued,
        running=numbers.running,
        submitted=numbers.submitted,
        completed=numbers.completed,
        failed=numbers.failed,
        cancelled=numbers.cancelled,
        timed_out=numbers.timed_out,
        lost=numbers.lost,
        predicted_wait_s=numbers.predicted_wait_s,
    )
