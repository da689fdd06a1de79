"""What a client knows of its cluster: nodes, what is under way, what it costs, and what was refused."""

from __future__ import annotations

import asyncio
import json
import platform
import threading
from typing import Any

import pytest

import lifepool
from lifepool import Pool
from lifepool.backends.remote.members import Members
from lifepool.backends.remote.messages import CALL, NODE, OUTCOME, Signer
from tests import tasks
from tests.engine.conftest import gate as gate
from tests.engine.gates import Gate, until
from tests.remote.loopback_world import world
from tests.remote.two_backends import world as two_backends


def announcement(**fields: Any) -> dict[str, Any]:
    usual = {"node": "n", "host": "h", "pid": 1, "state": "ready", "slots": 2, "running": 0, "refused": {}}
    return {**usual, "workers": {"ready": 2}, **fields}


async def test_a_pool_without_a_cluster_says_nothing_of_one() -> None:
    async with Pool(max_workers=1) as pool:
        assert pool.statistics().cluster is None


async def test_each_node_is_seen_with_its_workers_and_versions() -> None:
    async with world(nodes=1, workers=2) as w:
        await w.node(1, allow=("tests",))
        await until(lambda: len(w.backend.members) == 2)
        assert await w.pool.run(tasks.double, 2) == 4
        cluster = w.pool.statistics().cluster
        assert cluster is not None
        assert (cluster.address, cluster.unavailable, cluster.slots) == ("loopback", None, 3)
        first, second = cluster.nodes
        assert (first.state, first.slots, second.slots) == ("ready", 2, 1)
        assert first.lifepool == lifepool.__version__
        assert first.python == platform.python_version()
        assert (first.allow, second.allow) == (("tests", "builtins"), ("tests",))
        assert set(first.workers) <= {"starting", "ready", "busy"}
        assert first.name.endswith(str(first.name.rpartition(":")[2]))
        assert first.clock_offset_s is not None
        assert abs(first.clock_offset_s) < 5, "both are this machine's"
        assert json.dumps(w.pool.statistics().as_dict())


async def test_calls_are_counted_by_where_they_are(gate: Gate) -> None:
    async with world(nodes=1, workers=1, ahead=2.0) as w:
        handles = [w.pool.submit(tasks.hold, gate.address) for _ in range(2)]
        visitor = await gate.arrival()

        def where() -> tuple[int, int, int]:
            cluster = w.pool.statistics().cluster
            assert cluster is not None
            return cluster.unsent, cluster.queued, cluster.taken

        await until(lambda: where() == (0, 1, 1))
        assert await asyncio.to_thread(where) == (0, 1, 1), "any thread may ask"
        visitor.let_through()
        (await gate.arrival()).let_through()
        await asyncio.gather(*handles)
        assert where() == (0, 0, 0)
        w.cluster.cut()
        waiting = w.pool.submit(tasks.double, 1)
        await until(lambda: where() == (1, 0, 0))
        w.cluster.mend()
        assert await waiting == 2


async def test_the_overhead_of_a_call_leaves_out_what_its_function_ran(gate: Gate) -> None:
    async with world() as w:
        submitted = asyncio.get_running_loop().time()
        handle = w.pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        held = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() - held > 0.3)
        visitor.let_through()
        await handle
        statistics = w.pool.statistics()
        assert statistics.cluster is not None
        assert statistics.cluster.overhead.count == 1
        assert statistics.run.sum > 0.3
        whole = asyncio.get_running_loop().time() - submitted
        assert 0 < statistics.cluster.overhead.sum < whole - 0.3


async def test_redelivered_and_refused_messages_are_counted() -> None:
    async with world() as w:
        assert await w.pool.run(tasks.double, 2) == 4
        node = w.cluster.nodes[0].agent
        signer = Signer("a secret")
        again = signer.sign(OUTCOME, {"id": "x-1", "node": node.node, "status": "returned", "run_s": 0.0}, b"?")
        w.backend.received(again)
        w.backend.received(Signer("another").sign(NODE, announcement()))
        node.take(Signer("another").sign(CALL, {"id": "x"}))
        node.announce()
        await until(lambda: w.backend.members.refused["unsigned"] == 1)
        cluster = w.pool.statistics().cluster
        assert cluster is not None
        assert (cluster.redelivered, cluster.refused) == (1, {"unsigned": 1})
        assert cluster.refused_by_nodes == {"unsigned": 1}
        assert cluster.nodes[0].refused == {"unsigned": 1}


def test_what_nodes_refused_never_becomes_less() -> None:
    members = Members()
    members.heard(announcement(refused={"expired": 3}), 0.0)
    assert members.refused == {}, "before it was heard of"
    members.heard(announcement(refused={"expired": 5, "unsigned": 1}), 0.5)
    members.heard(announcement(state="gone"), 1.0)
    members.heard(announcement(node="m", refused={}), 1.0)
    assert members.refused == {"expired": 2, "unsigned": 1}


def test_the_offset_of_a_clock_is_taken_from_the_quickest_announcement() -> None:
    here = 1000.0
    members = Members(lambda: here)
    for delay in (0.5, 0.01, 2.0):
        members.heard(announcement(time=here + 30 - delay), 0.0)
    (node,) = (each.snapshot(0.0) for each in members.all())
    assert node.clock_offset_s is not None
    assert round(node.clock_offset_s, 3) == 29.99


def test_a_node_of_an_earlier_version_is_known_as_far_as_it_tells() -> None:
    members = Members()
    members.heard(announcement(), 0.0)
    (node,) = (each.snapshot(1.5) for each in members.all())
    assert (node.clock_offset_s, node.lifepool, node.python, node.allow) == (None, "", "", ())
    assert (node.name, node.heard_s, node.workers) == ("h:1", 1.5, {"ready": 2})


def test_statistics_can_be_read_while_calls_come_and_go() -> None:
    from lifepool.backends.remote.calls import Calls
    from lifepool.backends.remote.functions import RemoteCall

    calls, payload, stop = Calls("c"), RemoteCall(tasks.double, (1,), (), 1000), threading.Event()

    def churn() -> None:
        while not stop.is_set():
            calls.forget(calls.add(1, payload))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(2000):
            unsent, queued, taken = calls.counts()
            assert unsent + queued + taken <= 2
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("mode", ["overflow", "fallback"])
async def test_of_a_pool_with_two_backends_the_cluster_is_seen_too(mode: str) -> None:
    async with two_backends(mode) as w:
        await until(lambda: bool((seen := w.pool.statistics().cluster) and seen.nodes))
        assert await w.pool.run(tasks.double, 2) == 4
        statistics = w.pool.statistics()
        assert statistics.cluster is not None
        assert statistics.routing is not None
        assert statistics.cluster.overhead.count == statistics.routing.remote.completed
