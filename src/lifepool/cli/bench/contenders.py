"""One adapter for each pool, all with the same small interface.

Every adapter imports its package in :meth:`Contender.start`, so that a measurement pays for the
package under test alone, and uses the pool as its own documentation tells an asyncio user to.
"""

# ruff: noqa: D102 - what the methods do is said once, at Contender

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

CLOSE_BOUND = 20.0
"""Seconds a pool may take to stop; the slowest peer polls in steps of 0.2 s, so this is ample."""


class Contender(ABC):
    """A pool of ``workers`` processes driven from asyncio."""

    package: str | None = None
    """The package under test; ``None`` for the standard library."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @abstractmethod
    async def start(self) -> None:
        """Import the package and make the pool."""

    @abstractmethod
    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run one task in a worker and return its result."""

    @abstractmethod
    async def close(self) -> None:
        """Stop every worker, within a bound."""


class ExecutorContender(Contender):
    """A ``concurrent.futures`` executor behind ``loop.run_in_executor``."""

    @abstractmethod
    def make_executor(self) -> Executor:
        """Return the executor under test."""

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = self.make_executor()

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        return await self._loop.run_in_executor(self._executor, fn, *args)

    async def close(self) -> None:
        await asyncio.wait_for(asyncio.to_thread(self._executor.shutdown), CLOSE_BOUND)


class Standard(ExecutorContender):
    """``ProcessPoolExecutor`` with the platform's default start method (fork on Linux < 3.14)."""

    def make_executor(self) -> Executor:
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(self.workers)


class StandardForkserver(ExecutorContender):
    """``ProcessPoolExecutor`` over forkserver: lifepool's start method, so starts compare."""

    def make_executor(self) -> Executor:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context("forkserver")
        return ProcessPoolExecutor(self.workers, mp_context=context)


class Loky(ExecutorContender):
    """loky's executor with its own start method (fork and exec); idle workers are kept."""

    package: str = "loky"

    def make_executor(self) -> Executor:
        from loky import ProcessPoolExecutor

        executor: Executor = ProcessPoolExecutor(self.workers, timeout=None)
        return executor


class Deadpool(ExecutorContender):
    """Deadpool over forkserver, its default, with its default backlog of 1000 tasks."""

    package: str = "deadpool"

    def make_executor(self) -> Executor:
        from deadpool import Deadpool as DeadpoolExecutor

        executor: Executor = DeadpoolExecutor(max_workers=self.workers)
        return executor


class Pebble(Contender):
    """``pebble.ProcessPool`` with the platform's default start method, futures wrapped."""

    package: str = "pebble"

    async def start(self) -> None:
        from pebble import ProcessPool

        self._pool: Any = ProcessPool(max_workers=self.workers)

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        result: T = await asyncio.wrap_future(self._pool.schedule(fn, args=args))
        return result

    async def close(self) -> None:
        self._pool.close()
        await asyncio.to_thread(self._pool.join, CLOSE_BOUND)


class Anyio(Contender):
    """``anyio.to_process.run_sync``: a fresh interpreter a worker, started when first needed."""

    package: str = "anyio"

    async def start(self) -> None:
        from anyio import CapacityLimiter, to_process

        self._run_sync = to_process.run_sync
        self._limiter = CapacityLimiter(self.workers)

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        return await self._run_sync(fn, *args, limiter=self._limiter)

    async def close(self) -> None:
        """Do nothing: anyio ends its workers itself when the event loop shuts down."""


class Lifepool(Contender):
    """lifepool's local backend (forkserver) as its README shows it."""

    package: str = "lifepool"

    async def start(self) -> None:
        from lifepool import Pool

        self._pool = Pool(max_workers=self.workers)
        await self._pool.__aenter__()

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        return await self._pool.run(fn, *args)

    async def close(self) -> None:
        await asyncio.wait_for(self._pool.__aexit__(None, None, None), CLOSE_BOUND)


LIFEPOOL = "lifepool"
STANDARD = "standard"
LIMIT = "limit"
"""Not a pool: the same exchange with nothing but the system calls (``benchmarks.limits``)."""

CONTENDERS: dict[str, type[Contender]] = {
    LIFEPOOL: Lifepool,
    STANDARD: Standard,
    "standard-forkserver": StandardForkserver,
    "loky": Loky,
    "pebble": Pebble,
    "deadpool": Deadpool,
    "anyio": Anyio,
}

POOLS = (LIFEPOOL, STANDARD, "loky", "pebble", "deadpool", "anyio")
"""Contenders of every pool case. The standard pool over forkserver differs in its start alone."""

REQUIRES = {name: (kind.package,) for name, kind in CONTENDERS.items() if kind.package}
"""Packages without which a contender is left out of the run."""


def make_contender(name: str, workers: int) -> Contender:
    """Return the adapter called ``name``, not started."""
    return CONTENDERS[name](workers)
