"""What a client and its nodes tell of each other, for statistics, metrics, the live page and the doctor."""

from __future__ import annotations

import platform
import sys
import time
from typing import TYPE_CHECKING, Any

from lifepool._core.counters import BUCKETS_S, Histogram
from lifepool.statistics import ClusterStatistics, HistogramSnapshot

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from lifepool.backends.remote.calls import Calls
    from lifepool.backends.remote.logs import ClientLogs
    from lifepool.backends.remote.members import Members

#: Names that a node announces of those that it runs, at most.
_MOST_NAMES = 20


class ClusterCounts:
    """Count what happens between one client and its nodes.

    Attributes:
        overhead: Seconds of calls that were answered, without those that their functions ran.
        redelivered: Answers that came twice, or for calls that had an outcome before.
    """

    def __init__(self) -> None:
        self.overhead: Histogram = Histogram()
        self.redelivered: int = 0


def cluster_statistics(
    address: str,
    connected: bool,
    unavailable: str | None,
    now: float,
    *,
    members: Members,
    calls: Calls,
    counts: ClusterCounts,
    refused: Counter[str],
    logs: ClientLogs | None,
) -> ClusterStatistics:
    """Take one look at a cluster, at this monotonic instant. It may be called in any thread."""
    unsent, queued, taken = calls.counts()
    return ClusterStatistics(
        address=address,
        connected=connected,
        unavailable=unavailable,
        nodes=tuple(member.snapshot(now) for member in members.all()),
        slots=members.slots(),
        unsent=unsent,
        queued=queued,
        taken=taken,
        overhead=HistogramSnapshot(BUCKETS_S, tuple(counts.overhead.counts), counts.overhead.sum_s),
        redelivered=counts.redelivered,
        refused=dict(refused),
        refused_by_nodes=dict(members.refused),
        log_records_dropped=0 if logs is None else logs.dropped,
    )


def about_node(allow: Iterable[str] | None) -> dict[str, Any]:
    """Return what a node announces of itself, and what does not change.

    Args:
        allow: What it runs; None for all.
    """
    return {
        # (not imported: the package's own module is above this one)
        "versions": [sys.modules["lifepool"].__version__, platform.python_version()],
        "allow": ["*"] if allow is None else list(allow)[:_MOST_NAMES],
    }


def now_here() -> dict[str, float]:
    """Return the time by the clock of this machine, as a node announces it."""
    return {"time": time.time()}
