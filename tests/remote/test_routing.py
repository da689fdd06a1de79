"""This machine and a cluster in one pool, over a broker in memory: overflow, fallback, and a cluster that is lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from lifepool import BackendUnavailable, BackendUnsupported, Pool, QueueFull, TaskTimeout, WorkerLost
from lifepool.backends.remote import availability
from lifepool.backends.remote.loopback import LoopbackCluster
from tests import tasks
from tests.engine.conftest import gate as gate
from tests.engine.gates import Gate, until
from tests.remote.two_backends import World, world


def take(seconds: float) -> None:
    """Take so many seconds."""
    time.sleep(seconds)


# -- overflow --------------------------------------------------------------------------------------


async def test_what_has_no_room_here_runs_on_the_cluster(gate: Gate) -> None:
    async with world("overflow", max_queue=1) as w:
        handles = [w.pool.submit(tasks.hold, gate.address, number) for number in range(4)]
        visitors = [await gate.arrival(), await gate.arrival()]
        with pytest.raises(QueueFull):
            w.pool.submit(tasks.double, 1)
        for visitor in visitors:
            visitor.let_through()
        for visitor in [await gate.arrival(), await gate.arrival()]:
            visitor.let_through()
        assert await asyncio.gather(*handles) == [0, 1, 2, 3]
        assert (w.routing.local.completed, w.routing.remote.completed) == (2, 2)
        statistics = w.pool.statistics()
        assert (statistics.submitted, statistics.completed, statistics.refused) == (4, 4, 1)


async def test_what_would_wait_too_long_here_runs_on_the_cluster(gate: Gate) -> None:
    async with world("overflow", target_wait=0.001) as w:
        for _ in range(3):
            await w.pool.run(take, 0.05)
        held = w.pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        waiting = [w.pool.submit(take, 0.05) for _ in range(2)]
        await w.pool.run(take, 0.05)  # it would wait for longer than such a task takes
        assert w.routing.remote.completed == 1
        visitor.let_through()
        await asyncio.gather(held, *waiting)


async def test_what_cannot_travel_stays_here_and_is_refused_like_before(gate: Gate) -> None:
    async with world("overflow", max_queue=1) as w:
        held = [w.pool.submit(tasks.hold, gate.address) for _ in range(2)]
        visitor = await gate.arrival()
        with pytest.raises(QueueFull) as refused:
            w.pool.submit(tasks.double, lambda: 1)  # type: ignore[arg-type]
        assert "lambda" in repr(refused.value.__cause__)
        visitor.let_through()
        (await gate.arrival()).let_through()
        await asyncio.gather(*held)


async def test_a_map_uses_both() -> None:
    async with world("overflow", max_queue=2, slots=2) as w:
        assert sorted(await w.pool.gather(tasks.double, range(50))) == [2 * n for n in range(50)]


async def test_what_overflowed_comes_home_when_the_cluster_is_lost(gate: Gate) -> None:
    async with world("overflow", max_queue=1) as w:
        w.patch.setattr(availability, "PATIENCE_S", 60.0)
        first, second = [w.pool.submit(tasks.hold, gate.address, number) for number in range(2)]
        visitor = await gate.arrival()
        w.cluster.cut()  # not known yet: calls wait for a moment
        third = w.pool.submit(tasks.hold, gate.address, 2)
        visitor.let_through()
        await first
        visitor = await gate.arrival()  # the second has left the queue
        w.patch.setattr(availability, "PATIENCE_S", 0.0)
        await until(lambda: w.routing.moved == 1)
        visitor.let_through()
        (await gate.arrival()).let_through()
        assert [await second, await third] == [1, 2]
        assert w.routing.local.completed == 3


# -- fallback --------------------------------------------------------------------------------------


async def test_a_cluster_that_is_there_gets_all() -> None:
    async with world("fallback") as w:
        assert await w.pool.gather(tasks.double, range(20)) == [2 * n for n in range(20)]
        assert (w.routing.local.submitted, w.routing.breaker) == (0, "closed")
        cluster = w.pool.statistics().cluster
        assert cluster is not None
        assert cluster.slots == 1


async def test_calls_run_here_while_it_is_lost_and_there_when_it_is_back() -> None:
    async with world("fallback") as w:
        assert await w.pool.run(tasks.double, 1) == 2
        w.cluster.cut()
        assert await w.pool.run(tasks.double, 2) == 4  # it was sent, came back, and moved
        assert w.routing.moved == 1
        assert w.pool.submit(tasks.double, 3).id
        assert await w.pool.run(tasks.double, 3) == 6
        assert w.routing.breaker == "open"
        assert "it was cut" in str(w.routing.breaker_reason)
        w.cluster.mend()
        await until(lambda: w.routing.breaker_reason is None or w.backend.why_unavailable() is None)
        before = w.routing.remote.completed
        async with asyncio.timeout(20):
            while w.routing.breaker != "closed":
                await w.pool.run(tasks.double, 4)
        assert w.routing.remote.completed == before + 1
        assert w.routing.breaker_opened == 1


async def test_a_hundred_calls_survive_a_cut() -> None:
    async with world("fallback", slots=2) as w:
        handles = [w.pool.submit(tasks.double, n, retries=1) for n in range(100)]
        await handles[3]
        w.cluster.cut()
        answers = asyncio.gather(*handles)
        await until(lambda: w.routing.breaker == "open")
        w.cluster.mend()  # what ran there comes home
        assert await answers == [2 * n for n in range(100)]
        statistics = w.pool.statistics()
        assert (statistics.submitted, statistics.completed, statistics.lost) == (100, 100, 0)
        assert w.routing.moved > 0


async def test_a_map_goes_on_here(gate: Gate) -> None:
    async with world("fallback") as w:
        held = w.pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        doubled = asyncio.create_task(w.pool.gather(tasks.double, range(30)))
        await until(lambda: w.routing.remote.queued > 0)
        w.cluster.cut()
        assert await doubled == [2 * n for n in range(30)]
        visitor.let_through()
        w.cluster.mend()
        await held


async def test_a_lost_task_is_tried_again_here_if_it_has_retries(gate: Gate) -> None:
    async with world("fallback", slots=2) as w:
        lost, saved = w.pool.submit(tasks.hold, gate.address), w.pool.submit(tasks.hold, gate.address, 7, retries=1)
        for _ in range(2):
            await gate.arrival()
        (node,) = w.cluster.nodes
        await w.cluster.lose(node)
        w.backend.node_lost(node.agent.node, "it was pulled")
        w.backend._available._no_nodes_since = -1e9  # long ago
        w.backend.resize()
        with pytest.raises(WorkerLost):
            await lost
        (await gate.arrival()).let_through()
        assert await saved == 7
        assert (w.routing.local.completed, w.pool.statistics().retried) == (1, 1)


async def test_errors_timeouts_and_cancellation_are_the_same_for_what_has_moved(gate: Gate) -> None:
    async with world("fallback") as w:
        w.cluster.cut()
        with pytest.raises(ValueError, match="no such luck") as raised:
            await w.pool.run(tasks.fail, "no such luck")
        assert raised.value.__cause__ is not None  # the worker's traceback
        with pytest.raises(TaskTimeout):
            await w.pool.run(time.sleep, 60, timeout=0.3)
        handle = w.pool.submit(tasks.hold, gate.address)
        await gate.arrival()
        handle.cancel()
        assert await w.pool.run(tasks.double, 2) == 4


async def test_what_may_have_started_does_not_move_without_retries() -> None:
    async with world("fallback") as w:
        w.backend._transport.send = lambda calls: None  # type: ignore[method-assign]
        handle, retried = w.pool.submit(tasks.double, 1), w.pool.submit(tasks.double, 2, retries=1)
        await until(lambda: all(call.message for call in w.backend._calls))
        w.cluster.cut()
        w.backend.unsent([call.id for call in w.backend._calls])
        with pytest.raises(WorkerLost, match="it may have run"):
            await handle
        assert await retried == 4


async def test_this_machine_has_bounds_too(gate: Gate) -> None:
    async with world("fallback", max_queue=1) as w:
        await w.cut()
        held = [w.pool.submit(tasks.hold, gate.address) for _ in range(2)]
        visitor = await gate.arrival()
        with pytest.raises(QueueFull):
            w.pool.submit(tasks.double, 1)
        assert "saturated" in w.pool.readiness().reasons
        visitor.let_through()
        (await gate.arrival()).let_through()
        await asyncio.gather(*held)


async def test_a_pool_starts_without_its_cluster() -> None:
    made = World(mode="fallback")
    made.cluster.is_cut = True
    async with made.pool:
        assert await made.pool.run(tasks.double, 1) == 2
        assert made.routing.remote.completed == 0


# -- the life of the pool, readiness, initializers ---------------------------------------------------


async def test_a_lost_cluster_leaves_the_pool_ready_and_degraded() -> None:
    async with world("fallback") as w:
        assert (w.pool.readiness().ready, w.pool.readiness().degraded) == (True, ())
        await w.cut()
        assert (w.pool.readiness().ready, w.pool.readiness().degraded) == (True, ("breaker-open",))


async def test_a_drain_finishes_what_runs_and_waits_on_both(gate: Gate) -> None:
    async with world("overflow", max_queue=1) as w:
        handles = [w.pool.submit(tasks.hold, gate.address, number) for number in range(4)]
        visitors = [await gate.arrival(), await gate.arrival()]
        draining = asyncio.create_task(w.pool.drain(20))
        await until(lambda: w.pool.state.value == "draining")
        for visitor in visitors:
            visitor.let_through()
        for visitor in [await gate.arrival(), await gate.arrival()]:
            visitor.let_through()
        await draining
        assert await asyncio.gather(*handles) == [0, 1, 2, 3]


async def test_what_a_lost_cluster_gives_back_while_the_pool_drains_runs_here(gate: Gate) -> None:
    async with world("fallback") as w:
        held, waiting = w.pool.submit(tasks.hold, gate.address, 1), w.pool.submit(tasks.double, 2)
        visitor = await gate.arrival()
        draining = asyncio.create_task(w.pool.drain(20))
        await until(lambda: w.pool.state.value == "draining")
        w.cluster.cut()
        assert await waiting == 4
        visitor.let_through()
        w.cluster.mend()
        await draining
        assert await held == 1


async def test_the_initializer_is_called_on_both(gate: Gate) -> None:
    cluster = LoopbackCluster("a secret")
    there = cluster.backend(ahead=0, initializer=tasks.load, initargs=("there",))
    async with (
        Pool(backend="local", max_workers=1) as node,
        cluster.node(node),
        Pool(overflow=there, initializer=tasks.load, initargs=("here",), max_workers=1, max_queue=1) as pool,
    ):
        held = [pool.submit(tasks.hold_and_tell_what_is_loaded, gate.address) for _ in range(3)]
        for _ in held:
            (await gate.arrival()).let_through()
        assert sorted(loaded for _, loaded in await asyncio.gather(*held)) == [["here"], ["here"], ["there"]]


# -- settings --------------------------------------------------------------------------------------


def test_settings_that_make_no_sense_are_refused_at_construction() -> None:
    with pytest.raises(ValueError, match="overflow='local': expected the URL of a cluster"):
        Pool(overflow="local")
    with pytest.raises(ValueError, match="fallback='inline': expected 'local', or None"):
        Pool(fallback="inline")
    cluster = LoopbackCluster().backend()
    with pytest.raises(BackendUnsupported, match="comes from backend='local'"):
        Pool(backend="inline", overflow=cluster)


async def test_copy_false_is_what_both_must_be_able_to_do() -> None:
    async with world("overflow") as w:
        with pytest.raises(BackendUnsupported, match="copy=False"):
            await w.pool.run(tasks.double, 1, copy=False)


async def test_workers_cannot_be_replaced() -> None:
    async with world("overflow") as w:
        with pytest.raises(BackendUnsupported):
            await w.pool.recycle()


async def test_fallback_without_a_cluster_is_this_machine() -> None:
    async with Pool(backend="local", fallback="local", max_workers=1) as pool:
        assert await pool.run(tasks.double, 1) == 2
        assert pool.statistics().routing is None


def test_both_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEPOOL_FALLBACK", "local")
    assert Pool().config.fallback == "local"
    monkeypatch.setenv("LIFEPOOL_OVERFLOW", "nonsense")
    with pytest.raises(ValueError, match="expected the URL of a cluster"):
        Pool()


async def test_calls_fail_and_say_so_when_neither_takes_them(gate: Gate) -> None:
    async with world("overflow", max_queue=1) as w:
        held = [w.pool.submit(tasks.hold, gate.address, n) for n in range(2)]
        visitor = await gate.arrival()
        w.cluster.cut()
        with pytest.raises(BackendUnavailable):
            await w.pool.submit(tasks.double, 1)  # it went to the cluster, and the queue here is full
        visitor.let_through()
        (await gate.arrival()).let_through()
        await asyncio.gather(*held)
