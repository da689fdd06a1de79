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

    from lifepool.statistics import ClusterStatistics, PoolStatistics


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
REQUESTS = Metric(
    "lifepool_requests_total", "counter", "HTTP requests by what load shedding decided.", ("pool", "decision")
)
LAG = Metric("lifepool_loop_lag_seconds", "histogram", "How late the event loop was, measured by a timer.")

#: All of them, in the order in which they are exposed. Those of clusters are in ``CLUSTER_METRICS``.
METRICS = (TASKS, WAIT, RUN, QUEUE, REJECTED, WORKERS, RESTARTS, MEMORY, UTILISATION, PAYLOAD, REQUESTS, LAG)

NODES = Metric("lifepool_cluster_nodes", "gauge", "Nodes of the cluster by state.", ("pool", "state"), highest=True)
SLOTS = Metric("lifepool_cluster_slots", "gauge", "Tasks that all nodes run at the same time.", highest=True)
NODE_WORKERS = Metric(
    "lifepool_cluster_workers", "gauge", "Workers of all nodes by state.", ("pool", "state"), highest=True
)
CALLS = Metric("lifepool_cluster_calls", "gauge", "Calls without an answer, by where they are.", ("pool", "place"))
REACHABLE = Metric("lifepool_cluster_up", "gauge", "Server processes whose calls the cluster takes.")
OFFSET = Metric(
    "lifepool_cluster_clock_offset_seconds", "gauge", "The largest clock offset of a node, either way.", highest=True
)
OVERHEAD = Metric(
    "lifepool_cluster_overhead_seconds", "histogram", "From sending a call until its answer, less its run time."
)
REDELIVERED = Metric("lifepool_cluster_redelivered_total", "counter", "Answers that came twice, or too late.")
REFUSED = Metric(
    "lifepool_cluster_refused_total", "counter", "Messages that were not acted upon.", ("pool", "side", "cause")
)
LOGS_DROPPED = Metric(
    "lifepool_cluster_log_records_dropped_total", "counter", "Log records of tasks that nodes have dropped."
)

#: Those of pools with a cluster, in the order in which they are exposed.
CLUSTER_METRICS = (
    NODES, SLOTS, NODE_WORKERS, CALLS, REACHABLE, OFFSET, OVERHEAD, REDELIVERED, REFUSED, LOGS_DROPPED,
)  # fmt: skip

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
#: What ``LoadShedding`` decides.
DECISIONS = ("admitted", "refused_pool", "refused_loop", "dropped")

#: Where calls to a cluster are, the states of its nodes, and who refuses messages, and why.
PLACES = ("unsent", "queued", "taken")
NODE_STATES = ("ready", "draining")
SIDES = ("client", "node")
CAUSES = ("unsigned", "altered", "version", "expired", "replayed", "not allowed", "abandoned", OTHER)

Labels = tuple[str, ...]
Gauges = dict[tuple[Metric, Labels], float]
Counters = dict[tuple[Metric, Labels], float]


class MetricStore(Protocol):
    """What keeps the totals: memory, or the files that several processes share."""

    def add(self, metric: Metric, labels: Labels, amount: float) -> None:
        """Add to a counter."""

    def observe(self, metric: Metric, labels: Labels, new: HistogramSnapshot) -> None:
        """Add observations to a histogram."""


class PoolCounters:
    """The counters of one pool: add what came since the last update to a store.

    The pool's own statistics are taken as they are, so that counting costs a task nothing; each update adds
    the difference to the one before. A pool that is started again begins at zero, and the counters go on.

    Args:
        pool: The pool's name.
        store: Where the totals are kept.
    """

    def __init__(self, pool: str, store: MetricStore) -> None:
        self._pool = pool
        self._store = store
        self._counted: dict[tuple[Metric, Labels], float] = {}
        self._observed: dict[Metric, HistogramSnapshot] = {}

    def begin(self, statistics: PoolStatistics, lag: HistogramSnapshot, more: Counters) -> None:
        """Start from these numbers, and ``more`` of other counters: what came before is not counted."""
        self._counted = _counters(self._pool, statistics) | more
        self._observed = _histograms(statistics, lag)

    def record(self, statistics: PoolStatistics, lag: HistogramSnapshot, more: Counters) -> None:
        """Add what came since the last update to the store."""
        for key, value in (_counters(self._pool, statistics) | more).items():
            self._store.add(*key, value - self._counted.get(key, 0))
            self._counted[key] = value
        for metric, now in _histograms(statistics, lag).items():
            before = self._observed.get(metric)
            self._store.observe(metric, (self._pool,), now if before is None else minus(now, before))
            self._observed[metric] = now

    def tasks(self, counts: dict[tuple[str, str], int]) -> None:
        """Add tasks by name and outcome to the store."""
        for (name, outcome), count in counts.items():
            self._store.add(TASKS, (self._pool, name, outcome), count)


def _histograms(statistics: PoolStatistics, lag: HistogramSnapshot) -> dict[Metric, HistogramSnapshot]:
    found = {WAIT: statistics.wait, RUN: statistics.run, LAG: lag}
    if statistics.cluster is not None:
        found[OVERHEAD] = statistics.cluster.overhead
    return found


def minus(now: HistogramSnapshot, before: HistogramSnapshot) -> HistogramSnapshot:
    """Return what was observed between two snapshots."""
    counts = tuple(new - old for new, old in zip(now.counts, before.counts, strict=True))
    return HistogramSnapshot(now.bounds, counts, now.sum - before.sum)


def plus(one: HistogramSnapshot, other: HistogramSnapshot) -> HistogramSnapshot:
    """Return the sum of two snapshots."""
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return HistogramSnapshot(one.bounds, counts, one.sum + other.sum)


def _counters(pool: str, statistics: PoolStatistics) -> Counters:
    found: Counters = {(REJECTED, (pool,)): statistics.refused}
    found |= {(RESTARTS, (pool, reason)): 0.0 for reason in RESTART_REASONS}
    for reason, count in statistics.restarts.items():
        if reason != ExitReason.CLOSED:
            found[RESTARTS, (pool, REASONS.get(reason, OTHER))] += count
    found |= {(REQUESTS, (pool, decision)): statistics.requests.get(decision, 0) for decision in DECISIONS}
    for direction, total, shared in (
        ("sent", statistics.bytes_sent, statistics.shared_sent),
        ("received", statistics.bytes_received, statistics.shared_received),
    ):
        found[PAYLOAD, (pool, direction, PATHS[0])] = total - shared
        found[PAYLOAD, (pool, direction, PATHS[1])] = shared
    return found if statistics.cluster is None else found | _cluster_counters(pool, statistics.cluster)


def _cluster_counters(pool: str, cluster: ClusterStatistics) -> dict[tuple[Metric, Labels], float]:
    found: dict[tuple[Metric, Labels], float] = {(REDELIVERED, (pool,)): cluster.redelivered}
    found[LOGS_DROPPED, (pool,)] = cluster.log_records_dropped
    for side, refused in zip(SIDES, (cluster.refused, cluster.refused_by_nodes), strict=True):
        found |= {(REFUSED, (pool, side, cause)): 0.0 for cause in CAUSES}
        for cause, count in refused.items():
            found[REFUSED, (pool, side, cause if cause in CAUSES else OTHER)] += count
    return found


def gauges(pool: str, statistics: PoolStatistics, utilisation: float, memory: int | None) -> Gauges:
    """Return the gauges of a pool at this moment.

    Args:
        pool: Its name.
        statistics: Its statistics.
        utilisation: From a ``Window``.
        memory: Bytes that its workers occupy; None if that is not known.
    """
    found: Gauges = {(WORKERS, (pool, state)): statistics.workers.get(state, 0) for state in WORKER_STATES}
    found[QUEUE, (pool,)] = statistics.queued
    found[UTILISATION, (pool,)] = utilisation
    if memory is not None:
        found[MEMORY, (pool,)] = memory
    return found if statistics.cluster is None else found | _cluster_gauges(pool, statistics.cluster)


def _cluster_gauges(pool: str, cluster: ClusterStatistics) -> Gauges:
    found: Gauges = {(NODES, (pool, state)): 0 for state in NODE_STATES}
    for node in cluster.nodes:
        found[NODES, (pool, node.state)] += 1
    found[SLOTS, (pool,)] = cluster.slots
    workers = cluster.workers
    found |= {(NODE_WORKERS, (pool, state)): workers.get(state, 0) for state in WORKER_STATES}
    found |= {(CALLS, (pool, place)): getattr(cluster, place) for place in PLACES}
    found[REACHABLE, (pool,)] = float(cluster.unavailable is None)
    if cluster.clock_offset_s is not None:
        found[OFFSET, (pool,)] = cluster.clock_offset_s
    return found


def together(each: Iterable[Gauges]) -> Gauges:
    """Merge the gauges of several pools: for the same name and labels, the sum or the highest value."""
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
    """The utilisation of the last minute or, if nobody asked for longer, since the time before.

    Args:
        seconds: Its length.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        #: Instant, worker seconds and busy seconds; there is at least a sixtieth of the window between two.
        self._samples: deque[tuple[float, float, float]] = deque()

    def utilisation(self, statistics: PoolStatistics, now: float) -> float:
        """Add a sample; return the utilisation, 0 to 1.

        Args:
            statistics: The sample.
            now: Its monotonic instant in seconds.
        """
        samples = self._samples
        while len(samples) > 1 and now - samples[1][0] >= self._seconds:
            samples.popleft()
        _, worker_s, busy_s = samples[0] if samples else (now, 0.0, 0.0)
        if not samples or now - samples[-1][0] >= self._seconds / 60:
            samples.append((now, statistics.worker_s, statistics.busy_s))
        lived = statistics.worker_s - worker_s
        return min(1.0, max(0.0, (statistics.busy_s - busy_s) / lived)) if lived > 0 else 0.0


class Totals:
    """A store in memory. Scrapes may read it from other threads than the pools' own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[tuple[Metric, Labels], float] = {}
        self._histograms: dict[tuple[Metric, Labels], HistogramSnapshot] = {}

    def add(self, metric: Metric, labels: Labels, amount: float) -> None:
        """Add to a counter."""
        with self._lock:
            self._counters[metric, labels] = self._counters.get((metric, labels), 0.0) + amount

    def observe(self, metric: Metric, labels: Labels, new: HistogramSnapshot) -> None:
        """Add observations to a histogram."""
        with self._lock:
            before = self._histograms.get((metric, labels))
            self._histograms[metric, labels] = new if before is None else plus(before, new)

    def counters(self, metric: Metric) -> list[tuple[Labels, float]]:
        """Return all label values of a counter, with their totals."""
        with self._lock:
            return [(labels, total) for (each, labels), total in self._counters.items() if each is metric]

    def histograms(self, metric: Metric) -> list[tuple[Labels, HistogramSnapshot]]:
        """Return all label values of a histogram, with what was observed."""
        with self._lock:
            return [(labels, total) for (each, labels), total in self._histograms.items() if each is metric]
