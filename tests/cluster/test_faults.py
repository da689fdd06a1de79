"""Servers and nodes that go, come back, or hang: what the caller sees, and that all heals by itself."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest

from lifepool import BackendUnavailable, Pool, TaskTimeout, WorkerLost
from lifepool.backends.remote.members import SILENCE_S
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks
from tests.cluster.death import kill_the_node
from tests.cluster.servers import is_heard_of, works_again
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.servers import Harness


def slowly(number: int) -> int:
    time.sleep(0.02)
    return number


async def test_a_node_that_is_killed_loses_what_it_ran_and_retries_run_elsewhere(
    own_engine: Harness, gate: Gate
) -> None:
    doomed = await asyncio.to_thread(own_engine.start_node, 2)
    async with Pool(backend=own_engine.url) as pool:
        lost = pool.submit(tasks.hold, gate.address, "lost")
        saved = pool.submit(tasks.hold, gate.address, "saved", retries=1)
        for _ in range(2):
            await gate.arrival()
        await asyncio.to_thread(own_engine.start_node, 1)  # it may take longer than calls wait without a node
        await until(lambda: bool((cluster := pool.statistics().cluster) and cluster.slots == 3))
        await until(lambda: pool.statistics().running == 2)
        doomed.kill()
        with pytest.raises(WorkerLost, match="its node is gone"):
            await lost
        again = await gate.arrival()
        again.let_through()
        assert await saved == "saved"
        assert (pool.statistics().lost, pool.statistics().completed) == (1, 1)


async def test_each_call_has_one_outcome_though_a_node_is_killed(own_engine: Harness) -> None:
    doomed = await asyncio.to_thread(own_engine.start_node, 2)
    async with Pool(backend=own_engine.url) as pool:
        await works_again(pool)
        await asyncio.to_thread(own_engine.start_node, 2)
        await until(lambda: bool((cluster := pool.statistics().cluster) and cluster.slots == 4))
        before = pool.statistics().completed
        handles = [pool.submit(slowly, number, retries=3) for number in range(200)]
        await asyncio.gather(*handles[:20])
        doomed.kill()
        assert await asyncio.gather(*handles) == list(range(200))
        statistics = pool.statistics()
        assert (statistics.completed - before, statistics.lost, statistics.failed) == (200, 0, 0)
        assert (statistics.queued, statistics.running) == (0, 0)


async def test_a_task_that_kills_its_node_stops_after_its_retries(own_engine: Harness, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for _ in range(3):
        await asyncio.to_thread(own_engine.start_node)
    async with Pool(backend=own_engine.url) as pool:
        await works_again(pool)
        # It may kill its node before that has said that it has the call.
        with pytest.raises(WorkerLost, match=r"its node is gone|lost with the broker, or with a node"):
            await pool.run(kill_the_node, str(trace), retries=1)
        await works_again(pool)
        assert trace.read_text() == "it ran\n" * 2
        assert (pool.statistics().lost, pool.statistics().retried) == (1, 1)


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
    backend = make_remote_backend(own_engine.url)
    async with Pool(backend=backend) as pool:
        under_way = pool.submit(tasks.hold, gate.address, "came home")
        visitor = await gate.arrival()
        await until(lambda: is_heard_of(backend))
        own_engine.stop_server()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(BackendUnavailable):
            await pool.run(tasks.double, 1)
        assert loop.time() - began < 20  # two seconds on a machine that is not loaded
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


async def test_an_event_loop_that_stands_still_loses_nothing(engine: Harness, gate: Gate) -> None:
    async with Pool(backend=engine.url) as pool:
        running = pool.submit(tasks.hold, gate.address, "came home")
        visitor = await gate.arrival()
        time.sleep(2 * SILENCE_S)  # noqa: ASYNC251 - as an app does that computes on its loop
        visitor.let_through()
        assert await running == "came home"
        assert await pool.run(tasks.double, 2) == 4
        assert (pool.statistics().lost, pool.statistics().failed) == (0, 0)
