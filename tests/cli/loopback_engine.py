"""A cluster in memory as an engine that a URL can name: `loopback://here`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifepool.backends.remote.loopback import LoopbackCluster, LoopbackTransport

if TYPE_CHECKING:
    from lifepool.backends.remote.urls import ClusterUrl

cluster: LoopbackCluster = LoopbackCluster()
#: What is set on each transport that is made.
faults: dict[str, Any] = {}


def make_transport(url: ClusterUrl) -> LoopbackTransport:
    transport = LoopbackTransport(cluster)
    for name, value in faults.items():
        setattr(transport, name, value)
    return transport
