"""The values that ``Pool.statistics()`` and its like return: frozen, safe to keep, compare and send."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A sum of many observations, or the difference of two such sums, may be off by so much of itself.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """Durations counted by bucket.

    Attributes:
        bounds: Upper bounds of the buckets in seconds, ascending; the last bucket has none.
        counts: Observations in each bucket; one more than there are bounds.
        sum: Seconds observed in all.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """Return how many observations there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Return the mean in seconds, or None without observations."""
        return self.sum / self.count if self.count else None

    def quantile(self, q: float) -> float | None:
        """Estimate the duration in seconds that a share ``q`` of the observations does not exceed.

        The answer always lies within the bucket that holds it. The observations of a bucket are taken as evenly
        spread, as Prometheus does, but over no more of the bucket than their sum allows: the quantile of a single
        observation is that observation, and the median of observations that all lie in one bucket is their mean.

        Args:
            q: From 0 to 1; 0.99 is the 99th percentile.

        Returns:
            None without observations.
        """
        if not self.count:
            return None
        rank = min(max(q, 0.0), 1.0) * self.count
        seen = 0
        for bucket, count in enumerate(self.counts):
            if count and seen + count >= rank:
                first, last = self._spread(bucket)
                return first + (last - first) * max(0.0, rank - seen) / count
            seen += count
        raise AssertionError("the rank is at most the count")  # pragma: no cover

    def _spread(self, bucket: int) -> tuple[float, float]:
        """Return the durations between which the observations of a bucket are taken to lie."""
        count, lows, highs = self.counts[bucket], (0.0, *self.bounds), (*self.bounds, inf)
        low, high = lows[bucket], highs[bucket]
        others = [(each, i) for i, each in enumerate(self.counts) if each and i != bucket]
        # The least and the most that the mean of these can be, by what all the others may have.
        least = (self.sum - sum(each * highs[i] for each, i in others)) / count
        most = (self.sum - sum(each * lows[i] for each, i in others)) / count
        rounding = _ROUNDING * self.sum
        if least > high + rounding or most < low - rounding:  # not the sum of these observations: it says nothing
            return low, high if high < inf else low
        least, most = max(low, min(least, high)), min(high, max(most, low))
        if count == 1:
            return least, most
        # A mean nearer to one edge of the bucket than to the other: an even spread reaches as far to its other side.
        return (low if high == inf else max(low, 2 * least - high)), min(high, 2 * most - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatistics:
    """The tasks of one of the two backends of a pool, which is this machine or a cluster. See ``PoolStatistics``.

    Attributes:
        queued: Tasks waiting for it.
        running: Tasks given to its workers and not settled.
        submitted: Tasks accepted for it. Those that came from the cluster later are counted there.
        completed: Tasks whose function returned.
        failed: Tasks whose function raised, or that it took no more.
        cancelled: Tasks taken back.
        timed_out: Tasks whose timeout passed.
        lost: Tasks whose worker or node died.
        predicted_wait_s: Seconds that a task would probably wait for it.
    """

    queued: int
    running: int
    submitted: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int
    lost: int
    predicted_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingStatistics:
    """How the tasks of a pool with ``overflow`` or ``fallback`` are shared out.

    Attributes:
        mode: ``overflow`` (this machine first) or ``fallback`` (the cluster first).
        breaker: The circuit breaker: ``closed`` (the cluster gets tasks), ``open`` (it gets none) or ``half-open`` (one
            is on trial).
        breaker_reason: Why it is not closed; None if it is.
        breaker_opened: How often it has opened.
        moved: Tasks that the cluster had not started, or lost while they had retries, and that went on on this machine.
        local: This machine.
        remote: The cluster.
    """

    mode: str
    breaker: str
    breaker_reason: str | None
    breaker_opened: int
    moved: int
    local: BackendStatistics
    remote: BackendStatistics

    def is_saturated(self, max_queue: int) -> bool:
        """Return whether no queue that tasks may go to has room."""
        is_full_here, is_full_there = self.local.queued >= max_queue, self.remote.queued >= max_queue
        if self.breaker != "closed":
            return is_full_here
        return is_full_there and (is_full_here or self.mode == "fallback")


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a server should be sent requests.

    Attributes:
        ready: Whether it should.
        reasons: If not, why: ``broken`` (by a bug of lifepool's: only a restart of the server helps), ``terminating``,
            ``created``, ``starting``, ``draining``, ``closed``, ``crash-looping``, ``no-worker`` (none is up: all are
            still starting, or are about to be started again), ``saturated``, ``unreachable`` (the cluster of the pool
            is, or has no nodes).
        degraded: What is wrong though it is ready: ``breaker-open`` (the cluster gets no tasks, this machine runs
            them), or ``crash-looping`` or ``no-worker`` (on this machine, and the cluster runs them).
    """

    ready: bool
    reasons: tuple[str, ...]
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSnapshot:
    """One look at a worker.

    Attributes:
        number: Its number in the pool; a replaced worker's is not used again. A negative number is the cluster of a
            pool with two backends, as a whole.
        pid: Its process, if it has one of its own.
        state: ``starting``, ``ready``, ``busy``, ``draining`` or ``stopping``.
        task: The task it runs, or None. Where a worker runs several at a time: the oldest.
        task_name: The name of that task's function; None if nobody waits for the task any more.
        running_s: Seconds for which it has been running that task.
        pending: Tasks that it has besides.
        completed: Tasks that it has answered.
        age_s: Seconds since it was ready; None before.
        memory_bytes: The memory it occupies, where that is known; without what it shares.
    """

    number: int
    pid: int | None
    state: str
    task: int | None
    task_name: str | None
    running_s: float | None
    pending: int
    completed: int
    age_s: float | None
    memory_bytes: int | None

    def as_dict(self) -> dict[str, object]:
        """Return the same as a plain dict, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSnapshot:
    """One look at a node of a cluster, as this process knows it from what the node announces twice a second.

    Attributes:
        node: Its id; a program that is started anew has another one.
        name: Its machine and its process there, as in ``"worker-7:4711"``; log records of its tasks have it as well.
        state: ``ready``, or ``draining`` if it takes no more.
        slots: Tasks that it runs at the same time.
        running: Tasks that it has now, of all clients.
        workers: Its workers, by state.
        refused: Messages that it has refused since it was started, by reason, of all clients.
        heard_s: Seconds since it was last heard of.
        clock_offset_s: Seconds by which its clock is ahead of this machine's; too small by the time that its messages
            take. None if it is not known.
        lifepool: The version that it runs; empty if it does not say.
        python: That of its Python.
        allow: What it runs for clients, as it was told with ``--allow``; at most twenty names. ``("*",)`` is all.
    """

    node: str
    name: str
    state: str
    slots: int
    running: int
    workers: Mapping[str, int]
    refused: Mapping[str, int]
    heard_s: float
    clock_offset_s: float | None
    lifepool: str
    python: str
    allow: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatistics:
    """One look at the cluster behind a pool. Counts are since the pool was started, and of this process alone.

    Attributes:
        address: Where its broker or scheduler is, without a password.
        connected: Whether its broker or scheduler can be reached.
        unavailable: Why it takes no calls now; None if it does. A broken connection is borne with for a second, and the
            lack of nodes for five.
        nodes: Its nodes, in the order in which they were heard of.
        slots: Tasks that all nodes run at the same time; those that drain are left out.
        unsent: Calls that have not left this process.
        queued: Calls that were sent, and that no node has taken yet.
        taken: Calls that nodes have.
        overhead: Seconds from the moment when a call was sent until its answer was here, without those that its
            function ran: the way there, the wait for a slot, pickling, and the way back.
        redelivered: Answers that came twice, or for calls that had an outcome before.
        refused: Messages of nodes that were refused here, by reason.
        refused_by_nodes: Messages that nodes have refused since they were first heard of, by reason, of all clients.
        log_records_dropped: Log records of tasks that nodes have dropped, because there were too many.
    """

    address: str
    connected: bool
    unavailable: str | None
    nodes: tuple[NodeSnapshot, ...]
    slots: int
    unsent: int
    queued: int
    taken: int
    overhead: HistogramSnapshot
    redelivered: int
    refused: Mapping[str, int]
    refused_by_nodes: Mapping[str, int]
    log_records_dropped: int

    @property
    def clock_offset_s(self) -> float | None:
        """Return the largest clock offset of all nodes, in seconds either way; None if none is known."""
        known = [abs(each.clock_offset_s) for each in self.nodes if each.clock_offset_s is not None]
        return max(known, default=None)

    @property
    def workers(self) -> dict[str, int]:
        """Return how many workers all nodes have together, by state."""
        total: dict[str, int] = {}
        for each in self.nodes:
            for state, count in each.workers.items():
                total[state] = total.get(state, 0) + count
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """One look at a pool. Counts are since the pool was started.

    Attributes:
        state: ``created``, ``starting``, ``running``, ``draining`` or ``closed``.
        max_workers: Workers there may be.
        workers: How many workers there are, by state (``starting``, ``ready``, ``busy``, ``draining``, ``stopping``).
        queued: Tasks waiting in the pool.
        running: Tasks given to workers and not settled, those pipelined behind another one included.
        submitted: Tasks accepted.
        refused: Tasks refused with ``QueueFull``.
        retried: How often a task was run again.
        completed: Tasks whose function returned.
        failed: Tasks whose function raised.
        cancelled: Tasks taken back by their caller or by the end of the pool.
        timed_out: Tasks whose timeout passed.
        lost: Tasks whose worker died.
        restarts: Workers replaced, by reason.
        wait: Seconds from submission until a worker ran the task.
        run: Seconds the function ran, measured in the worker.
        utilisation: Part of the workers' time since they were ready that functions were running, 0 to 1.
        bytes_sent: Pickled arguments sent to workers, in bytes.
        bytes_received: Pickled answers received, in bytes.
        predicted_wait_s: Seconds that a task submitted now would probably wait.
        worker_s: Seconds that workers have been ready, all together, times the tasks that each runs at a time.
        busy_s: Of these, seconds that functions ran, those that still run included. Two looks give the utilisation
            between them: the difference of ``busy_s`` by that of ``worker_s``.
        shared_sent: Of ``bytes_sent``, those that went through shared memory.
        shared_received: Of ``bytes_received``, those that came through shared memory.
        requests: What ``LoadShedding`` decided about requests: ``admitted``; ``refused_pool``, the wait for workers was
            too long; ``refused_loop``, the event loop had too much to do; ``dropped``, admitted, and given up before
            its first task ran. Empty without it.
        cluster: The nodes, and what happens between them and this process; None if the pool has no cluster.
        routing: How tasks are shared out between this machine and a cluster; None for a pool with one backend.
    """

    state: str
    max_workers: int
    workers: Mapping[str, int]
    queued: int
    running: int
    submitted: int
    refused: int
    retried: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int
    lost: int
    restarts: Mapping[str, int]
    wait: HistogramSnapshot
    run: HistogramSnapshot
    utilisation: float
    bytes_sent: int = 0
    bytes_received: int = 0
    predicted_wait_s: float = 0.0
    worker_s: float = 0.0
    busy_s: float = 0.0
    shared_sent: int = 0
    shared_received: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    cluster: ClusterStatistics | None = None
    routing: RoutingStatistics | None = None

    @property
    def workers_up(self) -> int:
        """Return how many workers have started and take tasks, idle or busy."""
        return self.workers.get("ready", 0) + self.workers.get("busy", 0)

    def as_dict(self) -> dict[str, object]:
        """Return the same as plain dicts, lists and numbers, fit for JSON."""
        return asdict(self)
