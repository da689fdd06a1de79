"""The connection to a cluster breaks and comes back, in memory: what is asked for again, looked for, or lost."""

from __future__ import annotations

import asyncio

import pytest

from lifepool import BackendUnavailable, WorkerLost
from lifepool.backends.remote import backend as backend_module
from lifepool.backends.remote import upkeep as upkeep_module
from lifepool.backends.remote.loopback import LoopbackTransport
from lifepool.backends.remote.messages import Message
from tests import tasks
from tests.engine.conftest import gate as gate
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.remote.loopback_world import world


def lose_the_first_outcome(patch: pytest.MonkeyPatch) -> list[Message]:
    """Have the next outcome get lost on its way; return a list, which it is in then."""
    lost, deliver = list[Message](), LoopbackTransport.deliver

    def lose_one(transport: LoopbackTransport, message: Message) -> None:
        if b'"outcome"' in message.head and not lost:
            lost.append(message)
        else:
            deliver(transport, message)

    patch.setattr(LoopbackTransport, "deliver", lose_one)
    return lost


async def test_new_calls_are_refused_while_it_is_cut_and_go_through_after() -> None:
    async with world() as w:
        w.cluster.cut()
        with pytest.raises(BackendUnavailable, match="can't be reached: it was cut"):
            await w.pool.run(tasks.double, 1)  # it waits for a second first
        with pytest.raises(BackendUnavailable):
            w.pool.submit(tasks.double, 1)
        assert w.pool.statistics().queued == 0
        w.cluster.mend()
        assert await w.pool.run(tasks.double, 2) == 4


async def test_calls_that_wait_for_a_slot_are_refused_too_when_it_is_cut(gate: Gate) -> None:
    async with world() as w:
        running = w.pool.submit(tasks.hold, gate.address, "ran")
        visitor = await gate.arrival()
        w.cluster.cut()
        with pytest.raises(BackendUnavailable):
            await w.pool.run(tasks.double, 1)
        visitor.let_through()
        w.cluster.mend()
        assert await running == "ran"
        assert await w.pool.gather(tasks.double, range(4)) == [0, 2, 4, 6]


async def test_calls_that_come_during_a_short_cut_wait_for_its_end() -> None:
    async with world() as w:
        w.cluster.cut()
        handle = w.pool.submit(tasks.double, 4)
        await asyncio.sleep(0)
        w.cluster.mend()
        assert await handle == 8


async def test_what_runs_during_a_cut_comes_home_after_it(gate: Gate) -> None:
    async with world() as w:
        handle = w.pool.submit(tasks.hold, gate.address, "home")
        visitor = await gate.arrival()
        w.cluster.cut()
        visitor.let_through()
        await until(lambda: not w.cluster.nodes[0].agent.running)
        w.cluster.mend()
        assert await handle == "home"


async def test_an_answer_that_is_lost_after_the_connection_has_come_back_is_asked_for_again(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_module, "ASK_AGAIN_S", 0.05)
    async with world() as w:
        handle = w.pool.submit(tasks.hold, gate.address, "home")
        visitor = await gate.arrival()
        w.cluster.cut()
        w.cluster.mend()
        await until(lambda: all(call.node for call in w.backend._calls))
        lost = lose_the_first_outcome(monkeypatch)
        visitor.let_through()
        assert await handle == "home"
        assert len(lost) == 1


async def test_an_answer_to_a_call_that_may_not_have_got_out_is_asked_for_too(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world() as w:
        handle = w.pool.submit(tasks.hold, gate.address, "home")
        visitor = await gate.arrival()
        w.cluster.cut()
        w.backend.unsent([call.id for call in w.backend._calls])  # as if its broker had not confirmed it yet
        lost = lose_the_first_outcome(monkeypatch)
        visitor.let_through()
        await until(lambda: not w.cluster.nodes[0].agent.running)
        w.cluster.mend()
        async with asyncio.timeout(PATIENCE_S):  # in a minute it would be looked for
            assert await handle == "home"
        assert len(lost) == 1


async def test_a_node_that_comes_back_later_than_its_client_keeps_its_calls(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "SEARCH_AFTER_S", 0.0)
    monkeypatch.setattr(backend_module, "SILENCE_S", 60.0)
    monkeypatch.setattr(upkeep_module, "LOOK_AGAIN_S", 0.0)
    looks, search = list[float](), upkeep_module.Upkeep._search

    def count(upkeep: upkeep_module.Upkeep, now: float) -> None:
        looks.append(now)
        search(upkeep, now)

    monkeypatch.setattr(upkeep_module.Upkeep, "_search", count)
    async with world() as w:
        handle = w.pool.submit(tasks.hold, gate.address, "home")
        visitor = await gate.arrival()
        await until(lambda: all(call.node for call in w.backend._calls))
        agent = w.cluster.nodes[0].agent
        with monkeypatch.context() as patch:
            patch.setattr(agent, "control", lambda message: None)
            patch.setattr(agent, "repeat_taken", lambda: None)
            for _ in range(2):
                w.cluster.cut()
                w.cluster.mend()
            looks.clear()
            await until(lambda: len(looks) > 2)
        agent.repeat_taken()
        visitor.let_through()
        assert await handle == "home"


async def test_a_call_that_a_node_has_taken_a_moment_before_it_is_looked_for_is_not_lost() -> None:
    async with world(nodes=1, workers=1, ahead=1) as w:
        (node,) = w.cluster.nodes
        serve, w.cluster.serve = w.cluster.serve, lambda: None  # type: ignore[method-assign]
        handle = w.pool.submit(tasks.double, 4, retries=1)
        await until(lambda: bool(w.cluster.queue))
        (call,) = w.backend._calls
        _, packed = w.cluster.queue.popleft()
        call.search_at = 0.0
        await until(lambda: call.is_missed)
        node.agent.take(Message.unpack(packed))
        w.cluster.serve = serve  # type: ignore[method-assign]
        assert await handle == 8
        assert w.pool.statistics().retried == 0


async def test_before_a_call_is_lost_its_node_is_asked(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        (node,) = w.cluster.nodes
        monkeypatch.setattr(node.agent, "_send_taken", lambda client, ids: None)  # what it says is lost
        handle = w.pool.submit(tasks.hold, gate.address, "home")
        visitor = await gate.arrival()
        (call,) = w.backend._calls
        call.search_at = 0.0
        await until(lambda: call.node is not None)
        visitor.let_through()
        assert await handle == "home"


async def test_what_a_broker_has_forgotten_is_lost_or_tried_again(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "SEARCH_AFTER_S", 0.2)
    async with world(ahead=2.0) as w:
        running = w.pool.submit(tasks.hold, gate.address, "ran")
        visitor = await gate.arrival()
        waiting, with_retry = w.pool.submit(tasks.double, 1), w.pool.submit(tasks.double, 2, retries=1)
        await until(lambda: len(w.cluster.queue) == 2)
        w.cluster.cut()
        w.cluster.mend(forget=True)
        with pytest.raises(WorkerLost, match="lost with the broker"):
            await waiting
        visitor.let_through()
        assert await running == "ran"
        assert await with_retry == 4
