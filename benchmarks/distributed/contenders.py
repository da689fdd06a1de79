"""Adapters for Dask, Ray and Celery: a cluster of their own on the loopback interface, used as their pages show.

What a cluster has started ends with it: what is left after its own end is ended by us, within a bound.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

import psutil

from benchmarks.distributed.servers import HOST, end, rabbitmq, redis, worker_environment
from benchmarks.environment import ROOT
from lifepool.cli.bench.contenders import Contender, Lifepool, Standard
from lifepool.errors import BackendUnavailable

T = TypeVar("T")
ANSWER_BOUND_S = 30.0
END_BOUND_S = 10.0
UP_BOUND_S = 30.0
CALLERS = 64
RAY_STORE_BYTES = 256 << 20


def end_children() -> None:
    """End every process below this one that is still there, but multiprocessing's tracker, which ends after us."""
    children = [child for child in psutil.Process().children(recursive=True) if not _is_tracker(child)]
    for child in children:
        try:
            child.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(children, END_BOUND_S)
    for child in alive:
        child.kill()
    psutil.wait_procs(alive, END_BOUND_S)


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


class Dask(Contender):
    """``distributed.Client`` on a ``LocalCluster`` of processes with one thread each."""

    package = "distributed"

    async def start(self) -> None:
        """Start scheduler and workers."""
        from distributed import Client, LocalCluster

        self._cluster: Any = await LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            host=HOST,
            dashboard_address=None,
            asynchronous=True,
        )
        self._client: Any = await Client(self._cluster, asynchronous=True)

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Submit and await; ``pure=False``, or the second call would be answered from memory."""
        result: T = await self._client.submit(fn, *args, pure=False)
        return result

    async def close(self) -> None:
        """End the cluster."""
        await self._client.close()
        await self._cluster.close()
        await asyncio.to_thread(end_children)


class LifepoolOnDask(Dask):
    """lifepool with ``backend="dask+tcp://..."`` on such a cluster."""

    async def start(self) -> None:
        """Start the cluster, and the pool, which has a node started beside each of its workers."""
        from lifepool import Pool

        await super().start()
        self._pool = Pool(backend=f"dask+{self._cluster.scheduler_address}")
        await self._pool.__aenter__()

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run it as with any pool."""
        return await self._pool.run(fn, *args)

    async def close(self) -> None:
        """End the pool and the cluster."""
        await self._pool.__aexit__(None, None, None)
        await super().close()


class Ray(Contender):
    """``ray.remote`` functions, their references awaited."""

    package = "ray"

    async def start(self) -> None:
        """Start Ray's processes, on loopback alone."""
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else its server listens on every interface
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self._ray: Any = ray
        self._remote: dict[Callable[..., Any], Any] = {}
        ray.init(
            num_cpus=self.workers,
            include_dashboard=False,
            _node_ip_address=HOST,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=RAY_STORE_BYTES,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Call the remote function and await its reference."""
        remote = self._remote.get(fn)
        if remote is None:
            remote = self._remote[fn] = self._ray.remote(fn)
        result: T = await remote.remote(*args)
        return result

    async def close(self) -> None:
        """End Ray's processes."""
        await asyncio.to_thread(self._ray.shutdown)
        await asyncio.to_thread(end_children)


class LifepoolOnCelery(Contender):
    """lifepool with ``backend="celery+redis://..."`` and one node."""

    package = "celery"

    async def start(self) -> None:
        """Start the broker, a node and the pool."""
        from lifepool import Pool

        self._ends = ExitStack()
        url = f"celery+{self._ends.enter_context(self._broker())}"
        self._ends.callback(end, self._start_node(url))
        self._pool = Pool(backend=url, start_timeout=UP_BOUND_S)
        await self._pool.__aenter__()
        async with asyncio.timeout(UP_BOUND_S):  # the pool waits for its first node for a moment only
            while True:
                try:
                    await self._pool.run(abs, 1)
                except BackendUnavailable:
                    await asyncio.sleep(0.1)
                else:
                    return

    def _broker(self) -> AbstractContextManager[str]:
        return redis()

    def _start_node(self, url: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lifepool", "worker", "--backend", url, "--max-workers", str(self.workers)]
        command += ["--allow", "benchmarks", "--allow", "builtins", "--allow", "lifepool"]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run it as with any pool."""
        return await self._pool.run(fn, *args)

    async def close(self) -> None:
        """End the pool, the node and the broker."""
        await self._pool.__aexit__(None, None, None)
        await asyncio.to_thread(self._ends.close)
        await asyncio.to_thread(end_children)


class LifepoolOnRabbitmq(LifepoolOnCelery):
    """The same with ``backend="celery+amqp://..."``."""

    def _broker(self) -> AbstractContextManager[str]:
        return rabbitmq()


class LifepoolOnRay(Ray):
    """lifepool with ``backend="ray+gcs://..."`` on such a cluster."""

    async def start(self) -> None:
        """Start the cluster, and the pool, which places its actor there."""
        from lifepool import Pool

        await super().start()
        self._pool = Pool(backend=f"ray+gcs://{self._ray.get_runtime_context().gcs_address}")
        await self._pool.__aenter__()

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run it as with any pool."""
        return await self._pool.run(fn, *args)

    async def close(self) -> None:
        """End the pool and the cluster."""
        await self._pool.__aexit__(None, None, None)
        await super().close()


class Celery(Contender):
    """Celery with Redis as broker and for results, each result awaited by a thread in ``AsyncResult.get``."""

    package = "celery"

    async def start(self) -> None:
        """Start Redis and a prefork worker."""
        self._ends = ExitStack()
        broker = self._ends.enter_context(redis())
        os.environ["BENCHMARK_BROKER"] = broker
        from benchmarks.distributed.celery_app import call

        self._call: Any = call
        self._threads = ThreadPoolExecutor(CALLERS)
        self._ends.callback(self._threads.shutdown)
        self._ends.callback(end, self._start_worker(broker))

    def _start_worker(self, broker: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.distributed.celery_app", "worker"]
        command += ["--concurrency", str(self.workers), "--loglevel", "ERROR"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return subprocess.Popen(command, cwd=ROOT, env=worker_environment(broker), stdout=subprocess.DEVNULL)

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Send the call and have a thread wait for its result."""
        loop = asyncio.get_running_loop()
        result: T = await loop.run_in_executor(self._threads, self._get, fn, args)
        return result

    def _get(self, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
        answer = self._call.delay(fn.__module__, fn.__qualname__, args)
        try:
            value: T = answer.get(timeout=ANSWER_BOUND_S)
        finally:
            answer.forget()  # or Redis keeps it
        return value

    async def close(self) -> None:
        """End worker and Redis."""
        await asyncio.to_thread(self._ends.close)
        await asyncio.to_thread(end_children)


CONTENDERS: dict[str, type[Contender]] = {
    "lifepool": Lifepool,
    "standard": Standard,
    "dask": Dask,
    "lifepool-dask": LifepoolOnDask,
    "ray": Ray,
    "lifepool-ray": LifepoolOnRay,
    "celery": Celery,
    "lifepool-celery": LifepoolOnCelery,
    "lifepool-rabbitmq": LifepoolOnRabbitmq,
}
