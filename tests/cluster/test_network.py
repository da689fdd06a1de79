"""Between client, node and broker: a network that is slow, silent or breaks; brokers that forget; doubles; clocks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import redis

from lifepool import BackendUnavailable, Pool, TaskTimeout, WorkerLost
from lifepool.backends.celery.link import RedisLink
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks
from tests.cluster.celery_redis import CeleryOnRedis
from tests.cluster.dask_cluster import DaskCluster, DaskScheduler
from tests.cluster.proxy import Proxy
from tests.cluster.servers import RedisServer, free_port, is_heard_of, python, wait_until, works_again
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.servers import Harness


#: Engines all of whose messages go through their broker.
ON_CELERY = pytest.mark.parametrize("engine", ["celery+redis", "celery+amqp"], indirect=True)


@pytest.fixture
def celery(shared_redis: RedisServer) -> Iterator[CeleryOnRedis]:
    with CeleryOnRedis(shared_redis) as harness:
        yield harness


@pytest.fixture
def server(shared_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=shared_redis.port) as connection:
        yield connection


def through(proxy: Proxy, harness: Harness) -> str:
    """The URL of a cluster by way of a proxy."""
    port = harness.server.address.rpartition(":")[2].partition("/")[0]
    return harness.url.replace(f":{port}/", f":{proxy.port}/")


def port_of(harness: Harness) -> int:
    return int(harness.server.address.rpartition(":")[2].partition("/")[0])


async def is_refused(pool: Pool) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await pool.run(tasks.double, 1, timeout=0.3)
            except BackendUnavailable:
                return
            except TaskTimeout:
                continue


@ON_CELERY
async def test_a_slow_network_makes_calls_slow_and_nothing_else(engine: Harness) -> None:
    with Proxy(port_of(engine)) as proxy:
        proxy.delay_s = 0.03  # RabbitMQ takes a dozen round trips to connect
        async with Pool(backend=through(proxy, engine)) as pool:
            assert await pool.gather(tasks.double, range(20), timeout=30) == list(range(0, 40, 2))
            assert await pool.run(tasks.echo, bytes(1 << 20)) == bytes(1 << 20)


@ON_CELERY
async def test_connections_that_are_reset_come_back_and_lose_no_outcome(engine: Harness, gate: Gate) -> None:
    with Proxy(port_of(engine)) as proxy:
        async with Pool(backend=through(proxy, engine)) as pool:
            running = pool.submit(tasks.hold, gate.address, "came home")
            visitor = await gate.arrival()
            proxy.reset()
            visitor.let_through()
            assert await running == "came home"
            await works_again(pool)
            assert pool.statistics().lost == 0


@ON_CELERY
async def test_a_client_that_is_cut_off_refuses_calls_keeps_deadlines_and_heals(
    engine: Harness, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client notices in time that it is cut off, but perhaps not on a machine that is busy.
    monkeypatch.setattr("lifepool.backends.remote.members.SILENCE_S", 20.0)
    with Proxy(port_of(engine)) as proxy:
        backend = make_remote_backend(through(proxy, engine))
        async with Pool(backend=backend) as pool:
            running = pool.submit(tasks.hold, gate.address, "came home")
            visitor = await gate.arrival()
            await until(lambda: any(call.node for call in backend._calls))
            proxy.is_cut = True
            with contextlib.suppress(BackendUnavailable, TaskTimeout):  # nobody has noticed yet
                await pool.run(tasks.double, 1, timeout=1.0)  # (Dask's nodes are reached by another way)
            await is_refused(pool)
            visitor.let_through()
            proxy.is_cut = False
            assert await running == "came home"
            await works_again(pool)


async def test_a_node_that_is_cut_off_loses_its_tasks_and_comes_back(
    celery: CeleryOnRedis, gate: Gate, tmp_path: Path
) -> None:
    with Proxy(port_of(celery)) as proxy:
        node = python(
            "-m", "lifepool", "worker", "--backend", through(proxy, celery), "--max-workers", "1", "--allow", "tests",
            "--drain-timeout", "1", log=tmp_path / "node.log",
        )  # fmt: skip
        try:
            await asyncio.to_thread(wait_until, lambda: node.has_said("the node is up"), "the node")
            backend = make_remote_backend(celery.url)
            async with Pool(backend=backend) as pool:
                lost = pool.submit(tasks.hold, gate.address, "too late")
                visitor = await gate.arrival()
                await until(lambda: is_heard_of(backend))
                proxy.is_cut = True
                with pytest.raises(WorkerLost, match="not heard of"):
                    await lost
                visitor.let_through()
                proxy.is_cut = False
                await works_again(pool)
        finally:
            await asyncio.to_thread(node.end)


async def test_a_dask_worker_that_can_be_reached_badly_or_not_at_all(tmp_path: Path, gate: Gate) -> None:
    port = free_port()
    with (
        Proxy(port) as proxy,
        DaskScheduler(tmp_path) as scheduler,
        DaskCluster(scheduler, tmp_path, nanny=False) as dask,
    ):
        dask.where = (
            "--listen-address",
            f"tcp://127.0.0.1:{port}",
            "--contact-address",
            f"tcp://127.0.0.1:{proxy.port}",
        )
        await asyncio.to_thread(dask.start_node)
        async with Pool(backend=dask.url) as pool:
            proxy.delay_s = 0.03
            assert await pool.gather(tasks.double, range(20), timeout=30) == list(range(0, 40, 2))
            proxy.delay_s = 0.0
            proxy.reset()
            await works_again(pool)
            lost = pool.submit(tasks.hold, gate.address)
            await gate.arrival()
            proxy.is_cut = True
            with pytest.raises(WorkerLost, match="its node is gone"):
                await lost
            await is_refused(pool)
            proxy.is_cut = False
            await works_again(pool)


@pytest.mark.parametrize("persistent", [True, False])
async def test_calls_that_wait_in_a_redis_that_is_started_anew_run_once(
    persistent: bool, redis_program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifepool.backends.remote.availability.NO_NODES_S", 60.0)  # a node may be slow to start
    trace = f"{tmp_path}/ran"
    with RedisServer(redis_program, tmp_path, persistent=persistent) as server, CeleryOnRedis(server) as harness:
        backend = make_remote_backend(f"celery+{server.address}?queue={harness.queue}")
        async with Pool(backend=backend) as pool:
            waits = pool.submit(tasks.append_line, trace, "it ran", retries=1)
            await until(lambda: any(call.message for call in backend._calls))
            with redis.Redis(port=server.port) as connection:
                await until(lambda: connection.llen(harness.queue) == 1)
            server.stop()
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(harness.start_node)
            await waits
    with open(trace, encoding="utf-8") as lines:
        assert lines.read() == "it ran\n"


async def test_an_envelope_that_is_delivered_twice_runs_once(
    celery: CeleryOnRedis, server: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifepool.backends.remote.availability.NO_NODES_S", 60.0)  # a node may be slow to start
    trace = f"{tmp_path}/ran"
    async with Pool(backend=celery.url) as pool:
        calls = [pool.submit(tasks.append_line, trace, f"line {n}") for n in range(2)]
        await until(lambda: server.llen(celery.queue) >= 1)
        for message in server.lrange(celery.queue, 0, -1):
            server.lpush(celery.queue, message)
        nodes = [await asyncio.to_thread(celery.start_node) for _ in range(2)]
        await asyncio.gather(*calls)
        await asyncio.to_thread(
            wait_until, lambda: sum(node.log.read_text().count("replayed") for node in nodes) >= 1, "the refusal"
        )
    with open(trace, encoding="utf-8") as lines:
        assert sorted(lines.read().split("\n")) == ["", "line 0", "line 1"]


async def test_an_outcome_that_is_lost_is_sent_again_when_the_client_asks(
    celery: CeleryOnRedis, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(celery.start_node)
    with Proxy(port_of(celery)) as proxy:
        backend = make_remote_backend(through(proxy, celery))
        async with Pool(backend=backend) as pool:
            running = pool.submit(tasks.hold, gate.address, "came home")
            visitor = await gate.arrival()
            await until(lambda: any(call.node for call in backend._calls))
            link: Any = backend._transport._link  # type: ignore[attr-defined]
            dropped = asyncio.Event()
            with monkeypatch.context() as patch:
                patch.setattr(type(backend._transport), "heard", lambda *_: dropped.set())
                visitor.let_through()
                await asyncio.wait_for(dropped.wait(), 20)
                await asyncio.sleep(0.2)  # whatever the node has sent until now is gone
            assert isinstance(link, RedisLink)
            proxy.reset()  # the client connects anew, and asks
            assert await running == "came home"


@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0])
@pytest.mark.parametrize("own_engine", ["celery+redis", "celery+amqp", "dask+tcp"], indirect=True)
async def test_a_node_with_a_wrong_clock_keeps_deadlines(own_engine: Harness, gate: Gate, wrong_by: float) -> None:
    await asyncio.to_thread(lambda: own_engine.start_node(WRONG_BY=str(wrong_by)))
    async with Pool(backend=own_engine.url) as pool:
        assert await pool.run(tasks.double, 2, timeout=20) == 4
        held = pool.submit(tasks.hold_in_c, gate.address, timeout=5.0)
        await gate.arrival()
        with pytest.raises(TaskTimeout):
            await held
        assert await pool.run(tasks.double, 2, timeout=20) == 4  # its slot is free
        cluster = pool.statistics().cluster
        assert cluster is not None
        assert abs((cluster.nodes[0].clock_offset_s or 0) - wrong_by) < 60
