"""A pool with two backends: this machine, and a cluster of one node over a broker in memory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from lifepool.backends.remote import availability
from lifepool.backends.remote.loopback import LoopbackCluster
from tests.engine.gates import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lifepool.backends.remote.backend import RemoteBackend
    from lifepool.statistics import RoutingStatistics


class World:
    """A pool with two backends, and its cluster of one node.

    Attributes:
        cluster: The broker.
        backend: The cluster's client.
        pool: The pool.
        patch: What it changes is as before when the world ends.
    """

    patch: pytest.MonkeyPatch

    def __init__(self, *, mode: str, **settings: Any) -> None:
        self.cluster = LoopbackCluster("a secret")
        self.backend: RemoteBackend = self.cluster.backend(ahead=0)
        both = {"overflow": self.backend} if mode == "overflow" else {"backend": self.backend, "fallback": "local"}
        self.pool = Pool(**{"max_workers": 1, **both, **settings})

    @property
    def routing(self) -> RoutingStatistics:
        routing = self.pool.statistics().routing
        assert routing is not None
        return routing

    async def cut(self) -> None:
        """Cut the cluster off, and wait until that is known for certain."""
        self.cluster.cut()
        await until(lambda: self.routing.breaker == "open")


@contextlib.asynccontextmanager
async def world(mode: str, *, slots: int = 1, **settings: Any) -> AsyncIterator[World]:
    node = Pool(backend="local", max_workers=slots, drain_timeout=5)
    with pytest.MonkeyPatch.context() as patch:
        made = World(mode=mode, **settings)
        made.patch = patch
        patch.setattr(availability, "PATIENCE_S", 0.2)  # a lost cluster is given up sooner than in earnest
        async with node, made.cluster.node(node), made.pool:
            await until(lambda: made.backend.members.slots() == slots)
            yield made
