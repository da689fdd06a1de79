"""Celery, Dask and Ray in these experiments: with the time limit and the cancellation that each of them has."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from benchmarks.distributed import contenders as distributed
from lifepool.cli.bench.contenders import CONTENDERS, Contender

T = TypeVar("T")


class Cluster(Contender):
    """A cluster on this machine that is asked to end a task when nobody waits for it any more."""

    async def within(self, timeout: float, fn: Callable[..., T], *args: Any) -> T:
        """Run a task with a time limit."""
        async with asyncio.timeout(timeout):
            return await self.cancellable(fn, *args)

    async def cancellable(self, fn: Callable[..., T], *args: Any) -> T:
        """Run a task that is cancelled with its caller."""
        raise NotImplementedError


class Dask(distributed.Dask, Cluster):
    """A future that is cancelled, and released; Dask has nothing that ends a running task."""

    async def cancellable(self, fn: Callable[..., T], *args: Any) -> T:
        """Cancel the future."""
        future = self._client.submit(fn, *args, pure=False)
        try:
            result: T = await future
        except asyncio.CancelledError:
            await future.cancel(force=True)
            raise
        return result


class Ray(distributed.Ray, Cluster):
    """``ray.cancel(force=True)``, which kills the worker process."""

    async def cancellable(self, fn: Callable[..., T], *args: Any) -> T:
        """Cancel the task behind the reference."""
        reference = self._ray.remote(fn).options(max_retries=0).remote(*args)
        try:
            result: T = await reference
        except asyncio.CancelledError:
            await asyncio.to_thread(self._ray.cancel, reference, force=True)
            raise
        return result


class Celery(distributed.Celery, Cluster):
    """``time_limit``, which kills the process of the prefork pool, and ``revoke(terminate=True)``."""

    async def within(self, timeout: float, fn: Callable[..., T], *args: Any) -> T:
        """Let the worker keep the time limit, and give up waiting a little later in any case."""
        async with asyncio.timeout(2 * timeout):
            return await self._sent(fn, args, time_limit=timeout)

    async def cancellable(self, fn: Callable[..., T], *args: Any) -> T:
        """Revoke the task with its caller."""
        return await self._sent(fn, args)

    async def _sent(self, fn: Callable[..., T], args: tuple[Any, ...], **options: Any) -> T:
        loop = asyncio.get_running_loop()
        call = (fn.__module__, fn.__qualname__, args)
        answer = await asyncio.to_thread(self._call.apply_async, call, **options)
        try:
            result: T = await loop.run_in_executor(self._threads, answer.get, distributed.ANSWER_BOUND_S)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await asyncio.to_thread(answer.revoke, terminate=True, signal="SIGKILL")
            raise
        return result


CLUSTERS: dict[str, type[Cluster]] = {"celery": Celery, "dask": Dask, "ray": Ray}


def make_contender(name: str, workers: int) -> Contender:
    """Return the adapter called ``name``, not started."""
    return {**CONTENDERS, **CLUSTERS}[name](workers)
