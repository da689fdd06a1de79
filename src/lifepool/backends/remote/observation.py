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

    Args:
        address: Of the cluster, for people.
        members: The nodes.
        calls: The client's calls.
        logs: What tasks have logged on nodes.
        refused: Messages of nodes that were refused, by reason.

    Attributes:
        overhead: Seconds of calls that were answered, without those that their functions ran.
        redelivered: Answers that came twice, or for calls that had an outcome before.
    """

    def __init__(self, address: str, members: Members, calls: Calls, logs: ClientLogs, refused: Counter[str]) -> None:
        self.overhead: Histogram = Histogram()
        self.redelivered: int = 0
        self._address = address
        self._members = members
        self._calls = calls
        self._logs = logs
        self._refused = refused

    def look(self, connected: bool, unavailable: str | None, now: float) -> ClusterStatistics:
        """Take one look at the cluster, at this monotonic instant. It may be called in any thread."""
        unsent, queued, taken = self._calls.counts()
        return ClusterStatistics(
            address=self._address,
            connected=connected,
            unavailable=unavailable,
            nodes=tuple(member.snapshot(now) for member in self._members.all()),
            slots=self._members.slots(),
            unsent=unsent,
            queued=queued,
            taken=taken,
            overhead=HistogramSnapshot(BUCKETS_S, tuple(self.overhead.counts), self.overhead.sum_s),
            redelivered=self.redelivered,
            refused=dict(self._refused),
            refused_by_nodes=dict(self._members.refused),
            log_records_dropped=self._logs.dropped,
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
