"""The metrics of a pool: what there is, how it is counted, and how several pools and processes are added up.

Nothing here knows of Prometheus' client; ``lifepool.instrumentation.prometheus`` hands it over.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lifepool._core.states import ExitReason, TaskState, WorkerState
from lifepool.statistics import HistogramSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lifepool.statistics import PoolStatistics


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: Its name, as it is exposed.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: What it is.
        labels: Names of its labels; ``pool`` is the first of all.
        highest: Of a gauge: whether several pools of one name, or several processes, show the highest of their values.
            Others are added up.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ("pool",)
    highest: bool = False


TASKS = Metric(
    "lifepool_tasks_total", "counter", "Tasks that were accepted and have an outcome.", ("pool", "task", "outcome")
)
WAIT = Metric("lifepool_task_wait_seconds", "histogram", "From submission until a worker ran the task.")
RUN = Metric("lifepool_task_run_seconds", "histogram", "How long tasks ran, measured in the worker.")
QUEUE = Metric("lifepool_queue_length", "gauge", "Tasks that wait for a worker.")
REJECTED = Metric("lifepool_queue_rejected_total", "counter", "Tasks that were turned away because the pool was full.")
WORKERS = Metric("lifepool_workers", "gauge", "Workers by state.", ("pool", "state"))
RESTARTS = Metric(
    "lifepool_worker_restarts_total", "counter", "Workers that ended while the pool ran.", ("pool", "reason")
)
MEMORY = Metric("lifepool_worker_memory_bytes", "gauge", "Memory that the workers occupy, all together.")
UTILISATION = Metric(
    "lifepool_worker_utilisation_ratio", "gauge", "Part of the workers' time in which tasks ran, lately.", highest=True
)
PAYLOAD = Metric(
    "lifepool_payload_bytes_total", "counter", "Pickled arguments and answers.", ("pool", "direction", "path")
)
LAG = Metric("lifepool_loop_lag_seconds", "histogram", "How late the event loop came round, measured by a timer.")

#: All of them, in the order in which they are exposed.
METRICS = (TASKS, WAIT, RUN, QUEUE, REJECTED, WORKERS, RESTARTS, MEMORY, UTILISATION, PAYLOAD, LAG)

OUTCOMES = tuple(
    state.value
    for state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.TIMED_OUT, TaskState.LOST)
)
WORKER_STATES = tuple(state.value for state in WorkerState if state is not WorkerState.DEAD)
#: Everything above ``max_task_names``, and the rarest reasons.
OTHER = "other"
#: The label's value for each reason why a worker went. The end of the pool is no restart.
REASONS: dict[str, str] = {
    ExitReason.DIED: "died",
    ExitReason.OUT_OF_MEMORY: "out_of_memory",
    ExitReason.FAILED_TO_START: "failed_to_start",
    ExitReason.INTERRUPT_IGNORED: "interrupted",
    ExitReason.INTERRUPTED: "interrupted",
    ExitReason.TASK_NOT_TAKEN: "stopped",
    ExitReason.STOP_IGNORED: "stopped",
    ExitReason.MAX_TASKS: "max_tasks_per_worker",
    ExitReason.MAX_MEMORY: "max_worker_memory",
    ExitReason.IDLE: "idle_timeout",
    ExitReason.RECYCLED: "recycled",
    ExitReason.KEPT_VIEWS: OTHER,
    ExitReason.UNKNOWN_TASK: OTHER,
    ExitReason.NOT_READY_IN_TIME: OTHER,
    ExitReason.NOT_IMPORTED_IN_TIME: OTHER,
}
RESTART_REASONS = tuple(dict.fromkeys(REASONS.values()))
PATHS = ("channel", "shared_memory")

Labels = tuple[str, ...]
Gauges = dict[tuple[Metric, Labels], float]


class Ledger(Protocol):
    """Where numbers are put down: in memory, or in the files that several processes share."""

    def add(self, metric: Metric, labels: Labels, amount: float) -> None:
        """Count."""

    def observe(self, metric: Metric, labels: Labels, new: HistogramSnapshot) -> None:
        """Add observations to a histogram."""


class Books:
    """What one pool has counted since it was last looked at.

    The pool's own statistics are taken as they are, so that counting costs a task nothing; of each the difference to
    the look before is put down. A pool that is started again begins at zero, and the counters go on.

    Args:
        pool: The pool's name.
        ledger: Where it is put down.
    """

    def __init__(self, pool: str, ledger: Ledger) -> None:
        self._pool = pool
        self._ledger = ledger
        self._counted: dict[tuple[Metric, Labels], float] = {}
        self._observed: dict[Metric, HistogramSnapshot] = {}

    def begin(self, statistics: PoolStatistics, lag: HistogramSnapshot) -> None:
        """What was before is not counted."""
        self._counted = _counters(self._pool, statistics)
        self._observed = {WAIT: statistics.wait, RUN: statistics.run, LAG: lag}

    def put_down(self, statistics: PoolStatistics, lag: HistogramSnapshot) -> None:
        """Put down what came since the last look."""
        for key, value in _counters(self._pool, statistics).items():
            self._ledger.add(*key, value - self._counted[key])
            self._counted[key] = value
        for metric, now in ((WAIT, statistics.wait), (RUN, statistics.run), (LAG, lag)):
            self._ledger.observe(metric, (self._pool,), minus(now, self._observed[metric]))
            self._observed[metric] = now

    def tasks(self, counts: dict[tuple[str, str], int]) -> None:
        """Put down tasks by name and outcome."""
        for (name, outcome), count in counts.items():
            self._ledger.add(TASKS, (self._pool, name, outcome), count)


def minus(now: HistogramSnapshot, before: HistogramSnapshot) -> HistogramSnapshot:
    """What was observed in between."""
    counts = tuple(new - old for new, old in zip(now.counts, before.counts, strict=True))
    return HistogramSnapshot(now.bounds, counts, now.sum - before.sum)


def plus(one: HistogramSnapshot, other: HistogramSnapshot) -> HistogramSnapshot:
    """Both together."""
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return HistogramSnapshot(one.bounds, counts, one.sum + other.sum)


def _counters(pool: str, statistics: PoolStatistics) -> dict[tuple[Metric, Labels], float]:
    found: dict[tuple[Metric, Labels], float] = {(REJECTED, (pool,)): statistics.refused}
    found |= {(RESTARTS, (pool, reason)): 0.0 for reason in RESTART_REASONS}
    for reason, count in statistics.restarts.items():
        if reason != ExitReason.CLOSED:
            found[RESTARTS, (pool, REASONS.get(reason, OTHER))] += count
    for direction, total, shared in (
        ("sent", statistics.bytes_sent, statistics.shared_sent),
        ("received", statistics.bytes_received, statistics.shared_received),
    ):
        found[PAYLOAD, (pool, direction, PATHS[0])] = total - shared
        found[PAYLOAD, (pool, direction, PATHS[1])] = shared
    return found


def gauges(pool: str, statistics: PoolStatistics, utilisation: float, memory: int | None) -> Gauges:
    """What a pool is like at this moment.

    Args:
        pool: Its name.
        statistics: The look at it.
        utilisation: From a ``Window``.
        memory: Bytes that its workers occupy; None if that is not known.
    """
    found: Gauges = {(WORKERS, (pool, state)): statistics.workers.get(state, 0) for state in WORKER_STATES}
    found[QUEUE, (pool,)] = statistics.queued
    found[UTILISATION, (pool,)] = utilisation
    if memory is not None:
        found[MEMORY, (pool,)] = memory
    return found


def together(each: Iterable[Gauges]) -> Gauges:
    """The gauges of several pools as one: of the same name and labels, the sum or the highest."""
    total: Gauges = {}
    for found in each:
        for key, value in found.items():
            before = total.get(key)
            if before is None:
                total[key] = value
            else:
                total[key] = max(before, value) if key[0].highest else before + value
    return total


class Window:
    """The utilisation of the last minute or, if nobody has looked for longer, since the look before.

    Args:
        seconds: Its length.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._looks: deque[tuple[float, float, float]] = deque()  # at least a sixtieth of the window apart

    def utilisation(self, statistics: PoolStatistics, now: float) -> float:
        """Take a look into account; return the utilisation, 0 to 1.

        Args:
            statistics: The look.
            now: Its monotonic instant in seconds.
        """
        looks = self._looks
        while len(looks) > 1 and now - looks[1][0] >= self._seconds:
            looks.popleft()
        _, worker_s, busy_s = looks[0] if looks else (now, 0.0, 0.0)
        if not looks or now - looks[-1][0] >= self._seconds / 60:
            looks.append((now, statistics.worker_s, statistics.busy_s))
        lived = statistics.worker_s - worker_s
        return min(1.0, max(0.0, (statistics.busy_s - busy_s) / lived)) if lived > 0 else 0.0


class Totals:
    """A ledger in memory. Scrapes may read it from other threads than the pools' own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[tuple[Metric, Labels], float] = {}
        self._histograms: dict[tuple[Metric, Labels], HistogramSnapshot] = {}

    def add(self, metric: Metric, labels: Labels, amount: float) -> None:
        """Count."""
        with self._lock:
            self._counters[metric, labels] = self._counters.get((metric, labels), 0.0) + amount

    def observe(self, metric: Metric, labels: Labels, new: HistogramSnapshot) -> None:
        """Add observations to a histogram."""
        with self._lock:
            before = self._histograms.get((metric, labels))
            self._histograms[metric, labels] = new if before is None else plus(before, new)

    def counters(self, metric: Metric) -> list[tuple[Labels, float]]:
        """All label values of a counter, with their totals."""
        with self._lock:
            return [(labels, total) for (each, labels), total in self._counters.items() if each is metric]

    def histograms(self, metric: Metric) -> list[tuple[Labels, HistogramSnapshot]]:
        """All label values of a histogram, with what was observed."""
        with self._lock:
            return [(labels, total) for (each, labels), total in self._histograms.items() if each is metric]
