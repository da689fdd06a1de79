"""Answer what can be asked of an engine, from any thread, while its event loop goes on changing it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool._core.states import TASK_COMPLETED
from lifepool._engine.snapshot import pool_statistics, read_consistently, worker_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.routing import RoutedScheduler
    from lifepool._core.scheduler import Scheduler
    from lifepool._core.states import PoolState
    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.snapshot import Traffic
    from lifepool.backends.base import Backend
    from lifepool.errors import WorkerStartError
    from lifepool.hooks import TaskRecord
    from lifepool.statistics import ClusterStatistics, PoolStatistics, WorkerSnapshot


class QueueLoad(NamedTuple):
    """How much waits for a pool, at one instant.

    Attributes:
        next_wait_s: Seconds that the task which is next has waited; 0 if none waits.
        predicted_wait_s: Seconds that a task which joins the queue now would probably wait.
        run_s: Seconds that a task takes on average; 0 before the first.
        waiting: Tasks in the queue.
        capacity: Tasks that run at a time.
        completed: Tasks whose run time is known.
    """

    next_wait_s: float
    predicted_wait_s: float
    run_s: float
    waiting: int
    capacity: int
    completed: int


class Queries:
    """What can be asked of one engine. Nothing here changes anything.

    Args:
        scheduler: Knows tasks and workers.
        backend: Knows processes.
        handles: The handles of tasks without an outcome, by their numbers.
        traffic: Bytes sent and received.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        backend: Backend,
        handles: dict[int, TaskHandle[Any]],
        traffic: Traffic,
        clock: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._backend = backend
        self._handles = handles
        self._traffic = traffic
        self._clock = clock

    @property
    def crash_loop(self) -> WorkerStartError | None:
        """Return why no worker comes up, while that is so."""
        return self._scheduler.crash_loop

    @property
    def unreachable(self) -> str | None:
        """Return why a cluster takes no calls now; None if it does, or if it is none."""
        why = getattr(self._backend, "why_unavailable", None)
        return None if why is None else why()

    @property
    def has_free_worker(self) -> bool:
        """Whether a task that is submitted now starts at once."""
        return self._scheduler.fleet.free_worker() is not None

    @property
    def running(self) -> int:
        """Return how many tasks without an outcome are with a worker."""
        return self._scheduler.running

    @property
    def waiting(self) -> int:
        """Return how many tasks without an outcome are with no worker."""
        return self._scheduler.waiting

    def load(self) -> QueueLoad:
        """Return how much waits; on the event loop's thread only. It costs a few microseconds."""
        return self._load_of(self._scheduler, self._scheduler.tally.outcomes[TASK_COMPLETED])

    def _load_of(self, scheduler: Scheduler | RoutedScheduler, completed: int) -> QueueLoad:
        admission, since = scheduler.admission, scheduler.next_since
        return QueueLoad(
            0.0 if since is None else max(0.0, self._clock() - since),
            admission.predicted_wait_s,
            scheduler.run_times.overall_s or 0.0,
            admission.waiting,
            admission.capacity,
            completed,
        )

    def statistics(self, state: PoolState) -> PoolStatistics:
        """Return the numbers of a pool that is in this state."""

        def read() -> PoolStatistics:
            return pool_statistics(self._scheduler, state, self._clock(), self._traffic, self._cluster())

        return read_consistently(read)

    def _cluster(self) -> ClusterStatistics | None:
        """Return one look at the cluster; None if there is none."""
        look: Callable[[], ClusterStatistics | None] | None = getattr(self._backend, "cluster_statistics", None)
        return None if look is None else look()

    def workers(self, *, memory: bool = True) -> tuple[WorkerSnapshot, ...]:
        """Return what each worker does; without their memory it costs no system call."""

        def read() -> tuple[WorkerSnapshot, ...]:
            handles, pid_of, now = self._handles, self._backend.pid, self._clock()
            fleet = self._scheduler.fleet
            return tuple(worker_snapshot(each, handles, pid_of(each.id), now, memory=memory) for each in fleet)

        return read_consistently(read)

    def record_of(self, task: int) -> TaskRecord | None:
        """Return the record of a task that has no outcome yet; None if no hook watched when it came."""
        handle = self._handles.get(task)
        return None if handle is None else handle._record

    def oldest_records(self, most: int) -> list[TaskRecord]:
        """Return the records of tasks that have no outcome yet, in the order in which they were submitted."""

        def read() -> list[TaskRecord]:
            records = (handle._record for handle in self._handles.values())
            return list(islice((record for record in records if record is not None), most))

        return read_consistently(read)
