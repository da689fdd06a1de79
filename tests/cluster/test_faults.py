"""Servers and nodes that go, come back, or hang: what the caller sees, and that all heals by itself."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from lifepool import BackendUnavailable, Pool, TaskTimeout, WorkerLost
from tests import tasks
from tests.cluster.servers import works_again
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from tests.cluster.servers import Harness


async def test_a_node_that_is_killed_loses_what_it_ran_and_retries_run_elsewhere(
    own_engine: Harness, gate: Gate
) -> None:
    doomed = await asyncio.to_thread(own_engine.start_node, 2)
    async with Pool(backend=own_engine.url) as pool:
        lost = pool.submit(tasks.hold, gate.address, "lost")
        saved = pool.submit(tasks.hold, gate.address, "saved", retries=1)
        for _ in range(2):
            await gate.arrival()
        starting = asyncio.create_task(asyncio.to_thread(own_engine.start_node, 1))
        await until(lambda: pool.statistics().running == 2)
        doomed.kill()
        with pytest.raises(WorkerLost, match="its node is gone"):
            await lost
        await starting
        again = await gate.arrival()
        again.let_through()
        assert await saved == "saved"
        assert (pool.statistics().lost, pool.statistics().completed) == (1, 1)


async def test_a_node_that_is_told_to_end_finishes_what_it_runs(own_engine: Harness, gate: Gate) -> None:
    node = await asyncio.to_thread(own_engine.start_node)
    async with Pool(backend=own_engine.url) as pool:
        running = pool.submit(tasks.hold, gate.address, "finished")
        visitor = await gate.arrival()
        node.signal(signal.SIGTERM)
        ending = asyncio.create_task(asyncio.to_thread(node.wait))
        visitor.let_through()
        assert await running == "finished"
        assert await ending == 0


async def test_a_server_that_is_gone_is_named_and_all_heals_when_it_is_back(own_engine: Harness, gate: Gate) -> None:
    await asyncio.to_thread(own_engine.start_node)
    async with Pool(backend=own_engine.url) as pool:
        under_way = pool.submit(tasks.hold, gate.address, "came home")
        visitor = await gate.arrival()
        own_engine.stop_server()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(BackendUnavailable):
            await pool.run(tasks.double, 1)
        assert loop.time() - began < 10  # two seconds on a machine that is not loaded
        visitor.let_through()
        await asyncio.to_thread(own_engine.start_server)
        assert await under_way == "came home"
        await works_again(pool)


async def test_a_pool_starts_without_a_server_and_says_so(own_engine: Harness) -> None:
    own_engine.stop_server()
    async with Pool(backend=own_engine.url) as pool:
        with pytest.raises(BackendUnavailable, match="can't be reached"):
            await pool.run(tasks.double, 1)
        await asyncio.to_thread(own_engine.start_server)
        await asyncio.to_thread(own_engine.start_node)
        await works_again(pool)


async def test_a_server_that_hangs_is_noticed(own_engine: Harness) -> None:
    await asyncio.to_thread(own_engine.start_node)
    server = own_engine.server
    async with Pool(backend=own_engine.url) as pool:
        assert await pool.run(tasks.double, 1) == 2
        server.signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        await pool.run(tasks.double, 1, timeout=0.5)
                    except TaskTimeout:
                        continue
                    except BackendUnavailable:
                        break
        finally:
            server.signal(signal.SIGCONT)
        await works_again(pool)
