"""The metrics of pools with two backends, this machine and a cluster: which of them ran what, and the circuit breaker.

They are exposed only for such pools, beside those of every pool, which count both together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core.breaker import BreakerState
from lifepool.instrumentation.metrics import OUTCOMES, Metric

if TYPE_CHECKING:
    from lifepool.instrumentation.metrics import Counters, Gauges
    from lifepool.statistics import RoutingStatistics

BACKEND_TASKS = Metric(
    "lifepool_backend_tasks_total",
    "counter",
    "Tasks that have an outcome, by the backend that had them last.",
    ("pool", "backend", "outcome"),
)
BACKEND_QUEUE = Metric("lifepool_backend_queue_length", "gauge", "Tasks that wait for a backend.", ("pool", "backend"))
BACKEND_RUNNING = Metric("lifepool_backend_running", "gauge", "Tasks that a backend has.", ("pool", "backend"))
MOVED = Metric(
    "lifepool_tasks_moved_total", "counter", "Tasks that came back from the cluster and went on on this machine."
)
BREAKER = Metric(
    "lifepool_breaker_state", "gauge", "1 for the state that the circuit breaker is in, else 0.", ("pool", "state")
)
BREAKER_OPENED = Metric("lifepool_breaker_opened_total", "counter", "How often the circuit breaker has opened.")

#: All of them.
ROUTING_METRICS = (BACKEND_TASKS, BACKEND_QUEUE, BACKEND_RUNNING, MOVED, BREAKER, BREAKER_OPENED)
#: This machine, and the cluster.
BACKENDS = ("local", "remote")
BREAKER_STATES = tuple(state.value for state in BreakerState)


def routing_counters(pool: str, routing: RoutingStatistics | None) -> Counters:
    """Return the counters of a pool as they are now; none for a pool with one backend."""
    if routing is None:
        return {}
    found: Counters = {(MOVED, (pool,)): routing.moved, (BREAKER_OPENED, (pool,)): routing.breaker_opened}
    for backend in BACKENDS:
        of = getattr(routing, backend)
        found |= {(BACKEND_TASKS, (pool, backend, outcome)): getattr(of, outcome) for outcome in OUTCOMES}
    return found


def routing_gauges(pool: str, routing: RoutingStatistics | None) -> Gauges:
    """Return the gauges of a pool at this moment; none for a pool with one backend."""
    if routing is None:
        return {}
    found: Gauges = {(BREAKER, (pool, state)): float(state == routing.breaker) for state in BREAKER_STATES}
    for backend in BACKENDS:
        of = getattr(routing, backend)
        found[BACKEND_QUEUE, (pool, backend)] = of.queued
        found[BACKEND_RUNNING, (pool, backend)] = of.running
    return found
