"""A backend that brings its own cluster along: one node, in this process, with a real local pool."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from lifepool.backends.remote.backend import RemoteBackend
from lifepool.backends.remote.loopback import LoopbackCluster, LoopbackTransport
from lifepool.backends.remote.messages import Signer

if TYPE_CHECKING:
    from lifepool.backends.base import Listener


class WholeCluster(RemoteBackend):
    """Start the node with the pool, and end it with that."""

    def __init__(self, workers: int = 2, **options: Any) -> None:
        self.cluster = LoopbackCluster("a secret")
        super().__init__(LoopbackTransport(self.cluster), Signer("a secret"), **{"ahead": 0, **options})
        self._workers = workers
        self._stack = contextlib.AsyncExitStack()

    async def open(self, listener: Listener) -> None:
        await super().open(listener)
        pool = await self._stack.enter_async_context(Pool(backend="local", max_workers=self._workers))
        await self._stack.enter_async_context(self.cluster.node(pool))

    async def close(self) -> None:
        await super().close()
        await self._stack.aclose()
