"""Copy the scheduler's counters into the public ``PoolStatistics`` and ``WorkerSnapshot``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lifepool._core.counters import BUCKETS_S, Histogram
from lifepool._core.states import TaskState
from lifepool._host.memory import resident_bytes
from lifepool.statistics import HistogramSnapshot, PoolStatistics, WorkerSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lifepool._core.fleet import Worker
    from lifepool._core.scheduler import Scheduler
    from lifepool._core.states import PoolState
    from lifepool._engine.handle import TaskHandle
    from lifepool.statistics import ClusterStatistics

T = TypeVar("T")

#: Attempts to read before an error is taken for one.
MOST_ATTEMPTS = 100


@dataclass(slots=True)
class Traffic:
    """Bytes sent to workers and received from them; those through shared memory are counted in both."""

    sent: int = 0
    received: int = 0
    shared_sent: int = 0
    shared_received: int = 0


def read_consistently(read: Callable[[], T]) -> T:
    """Read the engine's state from any thread: read again if the event loop's thread has changed it meanwhile.

    Copying takes microseconds and the loop seldom comes in between, so the second attempt nearly always succeeds.
    """
    for _ in range(MOST_ATTEMPTS):
        try:
            return read()
        except (RuntimeError, LookupError):  # "changed size during iteration"; a list that has become empty
            continue
    return read()


def pool_statistics(
    scheduler: Scheduler, state: PoolState, now: float, traffic: Traffic, cluster: ClusterStatistics | None = None
) -> PoolStatistics:
    """Copy the counters; costs some ten microseconds and a few per worker."""
    tally = scheduler.tally
    outcomes = tally.outcomes
    slots_s = tally.worker_s * scheduler.limits.slots
    slots_s += sum((now - w.ready_at) * w.slots for w in scheduler.fleet if w.ready_at is not None)
    running_s = sum((now - w.head_since) * min(len(w.tasks), w.slots) for w in scheduler.fleet)
    return PoolStatistics(
        state=state.value,
        max_workers=scheduler.limits.max_workers,
        workers=dict(Counter(worker.state.value for worker in scheduler.fleet)),
        queued=max(0, scheduler.waiting),
        running=scheduler.running,
        submitted=tally.submitted,
        refused=tally.refused,
        retried=tally.retried,
        completed=outcomes[TaskState.COMPLETED],
        failed=outcomes[TaskState.FAILED],
        cancelled=outcomes[TaskState.CANCELLED],
        timed_out=outcomes[TaskState.TIMED_OUT],
        lost=outcomes[TaskState.LOST],
        restarts={reason.value: count for reason, count in tally.restarts.items()},
        wait=_frozen(tally.wait),
        run=_frozen(tally.run),
        utilisation=min(1.0, tally.run.sum_s / slots_s) if slots_s > 0 else 0.0,
        bytes_sent=traffic.sent,
        bytes_received=traffic.received,
        predicted_wait_s=scheduler.admission.predicted_wait_s,
        worker_s=slots_s,
        busy_s=tally.run.sum_s + running_s,
        shared_sent=traffic.shared_sent,
        shared_received=traffic.shared_received,
        requests=dict(tally.requests),
        cluster=cluster,
    )


def _frozen(histogram: Histogram) -> HistogramSnapshot:
    return HistogramSnapshot(BUCKETS_S, tuple(histogram.counts), histogram.sum_s)


def worker_snapshot(
    worker: Worker, handles: Mapping[int, TaskHandle[Any]], pid: int | None, now: float, *, memory: bool = True
) -> WorkerSnapshot:
    """Copy what is known of one worker."""
    head = handles.get(worker.tasks[0]) if worker.tasks else None
    return WorkerSnapshot(
        number=worker.id,
        pid=pid,
        state=worker.state.value,
        task=worker.tasks[0] if worker.tasks else None,
        task_name=None if head is None else head._name,
        running_s=now - worker.head_since if worker.tasks else None,
        pending=max(0, len(worker.tasks) - 1),
        completed=worker.completed,
        age_s=None if worker.ready_at is None else now - worker.ready_at,
        memory_bytes=resident_bytes(pid) if memory and pid is not None else None,
    )
