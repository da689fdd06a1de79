"""This machine and a real cluster in one pool: overflow, fallback, and a server that goes and comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool, WorkerLost
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks
from tests.cluster.servers import is_heard_of
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from lifepool.statistics import RoutingStatistics
    from tests.cluster.servers import Harness


def routing_of(pool: Pool) -> RoutingStatistics:
    routing = pool.statistics().routing
    assert routing is not None
    return routing


async def test_what_has_no_room_here_runs_on_a_node(engine: Harness, gate: Gate) -> None:
    async with Pool(overflow=engine.url, max_workers=1, max_queue=1) as pool:
        await until(lambda: bool((cluster := pool.statistics().cluster) and cluster.nodes))
        handles = [pool.submit(tasks.hold, gate.address, number) for number in range(4)]
        visitors = [await gate.arrival() for _ in range(3)]
        for visitor in visitors:
            visitor.let_through()
        (await gate.arrival()).let_through()
        assert await asyncio.gather(*handles) == [0, 1, 2, 3]
        assert (routing_of(pool).local.completed, routing_of(pool).remote.completed) == (2, 2)


async def test_calls_survive_a_server_that_goes_and_comes_back(own_engine: Harness, gate: Gate) -> None:
    await asyncio.to_thread(own_engine.start_node, 2)
    backend = make_remote_backend(own_engine.url)
    async with Pool(backend=backend, fallback="local", max_workers=2) as pool:
        under_way = pool.submit(tasks.hold, gate.address, "came home")
        visitor = await gate.arrival()
        await until(lambda: is_heard_of(backend))
        own_engine.stop_server()
        # With a retry: what is being sent in the moment when the connection breaks may have got out.
        assert await pool.gather(tasks.double, range(20), retries=1) == [2 * number for number in range(20)]
        async with asyncio.timeout(30):
            while not pool.readiness().degraded:  # until then nodes of Dask and Ray may answer
                assert await pool.run(tasks.double, 4, retries=1) == 8
        assert pool.readiness().ready
        assert pool.readiness().degraded == ("breaker-open",)
        there = routing_of(pool).remote.completed
        assert await pool.gather(tasks.double, range(20)) == [2 * number for number in range(20)]
        assert routing_of(pool).remote.completed == there
        visitor.let_through()
        await asyncio.to_thread(own_engine.start_server)
        assert await under_way == "came home"
        async with asyncio.timeout(60):
            while routing_of(pool).breaker != "closed":
                assert await pool.run(tasks.double, 4) == 8
        before = routing_of(pool).remote.completed
        assert await pool.run(tasks.double, 5) == 10
        assert routing_of(pool).remote.completed == before + 1


async def test_a_node_that_is_killed_costs_what_it_ran_and_this_machine_goes_on(
    own_engine: Harness, gate: Gate
) -> None:
    node = await asyncio.to_thread(own_engine.start_node, 2)
    backend = make_remote_backend(own_engine.url)
    async with Pool(backend=backend, fallback="local", max_workers=1) as pool:
        lost, saved = pool.submit(tasks.hold, gate.address), pool.submit(tasks.hold, gate.address, "saved", retries=1)
        for _ in range(2):
            await gate.arrival()
        await until(lambda: is_heard_of(backend, 2))
        node.kill()
        with pytest.raises(WorkerLost, match="its node is gone"):
            await lost
        (await gate.arrival()).let_through()
        assert await saved == "saved"
        await until(lambda: routing_of(pool).breaker == "open")
        assert await pool.run(tasks.double, 2) == 4
        assert (pool.statistics().lost, pool.statistics().retried) == (1, 1)
