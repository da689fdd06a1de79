"""A client and its nodes over a broker in memory, for tests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from lifepool.backends.remote.loopback import LoopbackCluster, LoopbackNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class World:
    """One client and its cluster, whose nodes come and go.

    Attributes:
        cluster: The broker.
        backend: The client's.
        pool: The client.
    """

    def __init__(self, stack: contextlib.AsyncExitStack, **options: Any) -> None:
        self.cluster = LoopbackCluster("a secret")
        self.backend = self.cluster.backend(**{"ahead": 0, **options})
        self.pool = Pool(backend=self.backend, max_workers=1)
        self._stack = stack

    async def node(self, workers: int = 1, *, allow: tuple[str, ...] = ("tests", "builtins")) -> LoopbackNode:
        local = await self._stack.enter_async_context(Pool(backend="local", max_workers=workers, drain_timeout=5))
        return await self._stack.enter_async_context(self.cluster.node(local, allow))


@contextlib.asynccontextmanager
async def world(*, nodes: int = 1, workers: int = 1, **options: Any) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        made = World(stack, **options)
        for _ in range(nodes):
            await made.node(workers)
        async with made.pool:
            yield made
