"""What the page shows of the cluster behind a pool, if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifepool.dashboard.formatting import visible

if TYPE_CHECKING:
    from lifepool.statistics import ClusterStatistics, NodeSnapshot

#: Nodes that are shown one by one: those with the most to do. Others are in the sums.
MAX_NODES = 200
#: Characters of what a node says of itself.
MAX_TEXT = 100


def cluster_of(cluster: ClusterStatistics | None) -> dict[str, Any] | None:
    """Return plain values for JSON; None if the pool has no cluster."""
    if cluster is None:
        return None
    overhead = cluster.overhead
    busiest = sorted(cluster.nodes, key=lambda node: node.running, reverse=True)[:MAX_NODES]
    return {
        "address": visible(cluster.address),
        "unavailable": None if cluster.unavailable is None else visible(cluster.unavailable),
        "slots": cluster.slots,
        "unsent": cluster.unsent,
        "queued": cluster.queued,
        "taken": cluster.taken,
        "overhead": [overhead.quantile(q) for q in (0.5, 0.95, 0.99)],
        "redelivered": cluster.redelivered,
        "refused": sum(cluster.refused.values()),
        "refused_by_nodes": sum(cluster.refused_by_nodes.values()),
        "log_records_dropped": cluster.log_records_dropped,
        "clock_offset_s": cluster.clock_offset_s,
        "workers": cluster.workers,
        "node_count": len(cluster.nodes),
        "nodes": [_node(node) for node in sorted(busiest, key=lambda node: node.name)],
    }


def _node(node: NodeSnapshot) -> dict[str, Any]:
    return {
        "node": visible(node.node[:MAX_TEXT]),
        "name": visible(node.name[:MAX_TEXT]),
        "state": node.state,
        "slots": node.slots,
        "running": node.running,
        "workers": dict(node.workers),
        "refused": sum(node.refused.values()),
        "heard_s": node.heard_s,
        "clock_offset_s": node.clock_offset_s,
        "lifepool": visible(node.lifepool[:MAX_TEXT]),
        "python": visible(node.python[:MAX_TEXT]),
    }
