"""A client and its nodes over a broker in memory: what happens when parts of that fail, forced, without a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import BackendUnavailable, BackendUnsupported, TaskTimeout, WorkerLost
from lifepool.backends.remote import node as node_module
from lifepool.backends.remote.loopback import LoopbackNode, LoopbackTransport
from lifepool.backends.remote.members import SILENCE_S
from lifepool.backends.remote.messages import CALL, Message, Signer
from tests import tasks
from tests.engine.conftest import gate as gate
from tests.engine.gates import Gate, until
from tests.remote.loopback_world import world

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_slots_follow_the_nodes() -> None:
    async with world(nodes=1, workers=2) as w:
        assert w.backend.members.slots() == 2
        other = await w.node(3)
        await until(lambda: w.backend.members.slots() == 5)
        await w.cluster.lose(other)
        w.backend.node_lost(other.agent.node, "it was pulled")
        assert w.backend.members.slots() == 2


async def test_a_lost_node_loses_what_it_ran_and_nothing_else(gate: Gate) -> None:
    async with world(nodes=2) as w:
        handles = [w.pool.submit(tasks.hold, gate.address, number) for number in range(2)]
        visitors = [await gate.arrival(), await gate.arrival()]
        doomed = w.cluster.nodes[0]
        await until(lambda: all(call.node for call in w.backend._calls))
        ids = {call.id: call.task for call in w.backend._calls if call.node == doomed.agent.node}
        await w.cluster.lose(doomed)
        w.backend.node_lost(doomed.agent.node, "it was pulled")
        for visitor in visitors:
            with contextlib.suppress(OSError):
                visitor.let_through()
        results = await asyncio.gather(*handles, return_exceptions=True)
        lost = [handle.id for handle, result in zip(handles, results, strict=True) if isinstance(result, WorkerLost)]
        assert lost == list(ids.values())
        assert w.pool.statistics().lost == 1
        assert "its node is gone" in str(next(r for r in results if isinstance(r, WorkerLost)))


async def test_a_silent_node_is_given_up(gate: Gate) -> None:
    async with world() as w:
        handle = w.pool.submit(tasks.hold, gate.address, retries=1)
        await gate.arrival()
        await w.cluster.lose(w.cluster.nodes[0])
        w.backend.members.all()[0].heard -= SILENCE_S
        await w.node()
        again = await gate.arrival()  # it runs on the other node, because it has a retry
        again.let_through()
        await handle
        assert w.pool.statistics().retried == 1


async def test_a_loop_that_stood_still_gives_nodes_their_time(gate: Gate) -> None:
    async with world() as w:
        handle = w.pool.submit(tasks.hold, gate.address, "came home")
        visitor = await gate.arrival()
        upkeep = w.backend._upkeep
        assert upkeep is not None
        upkeep._looked -= 2 * SILENCE_S
        w.backend.members.all()[0].heard -= 2 * SILENCE_S
        upkeep._look()
        visitor.let_through()
        assert await handle == "came home"


async def test_a_task_that_was_given_up_is_broken_off_when_its_node_is_heard_again(gate: Gate) -> None:
    async with world() as w:
        handle = w.pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        await until(lambda: any(call.node for call in w.backend._calls))
        (node,) = w.cluster.nodes
        w.backend.node_lost(node.agent.node, "it stood still")
        with pytest.raises(WorkerLost, match="it stood still"):
            await handle
        node.agent.announce()
        await visitor.gone()
        assert await w.pool.run(tasks.double, 2) == 4


async def test_a_poison_task_stops_and_the_node_stays() -> None:
    async with world() as w:
        with pytest.raises(WorkerLost) as lost:
            await w.pool.run(tasks.exit_hard, 3, retries=2)
        assert lost.value.exitcode == 3
        assert w.pool.statistics().retried == 2
        assert await w.pool.run(tasks.double, 2) == 4


@pytest.mark.parametrize("hold", [tasks.hold_in_python, tasks.hold_in_c, tasks.hold_stubbornly])
async def test_a_timeout_frees_the_remote_slot(gate: Gate, hold: Any) -> None:
    async with world() as w:
        handle = w.pool.submit(hold, gate.address, timeout=3.0)
        await gate.arrival()
        with pytest.raises(TaskTimeout):
            await handle
        assert await w.pool.run(tasks.double, 2) == 4  # there is one slot only


async def test_a_node_ends_a_task_at_its_deadline_though_the_client_is_gone(gate: Gate) -> None:
    async with world() as w:
        w.pool.submit(tasks.hold_in_python, gate.address, timeout=3.0).add_done_callback(lambda h: h.exception())
        await gate.arrival()
        (node,) = w.cluster.nodes
        w.cluster._clients.clear()  # it sends nothing any more, and hears nothing
        w.cluster.to_nodes = lambda message: None  # type: ignore[method-assign]
        await until(lambda: not node.agent.running)


async def test_a_cancelled_task_frees_the_remote_slot(gate: Gate) -> None:
    async with world() as w:
        handle = w.pool.submit(tasks.hold_in_c, gate.address)
        await gate.arrival()
        handle.cancel()
        assert await w.pool.run(tasks.double, 2) == 4


async def test_what_waits_at_the_broker_and_is_cancelled_never_runs(gate: Gate) -> None:
    async with world(ahead=2.0) as w:
        first = w.pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        second = w.pool.submit(tasks.hold, gate.address)
        await until(lambda: len(w.cluster.queue) == 1)
        second.cancel()
        visitor.let_through()
        await first
        assert await w.pool.run(tasks.double, 2) == 4
        assert gate.nobody_came()


async def test_several_are_cancelled_at_once(gate: Gate) -> None:
    async with world(workers=3) as w:
        handles = [w.pool.submit(tasks.hold_in_python, gate.address) for _ in range(3)]
        for _ in handles:
            await gate.arrival()
        for handle in handles:
            handle.cancel()
        await until(lambda: not w.cluster.nodes[0].agent.running)
        assert sorted(await w.pool.gather(tasks.double, range(6))) == [0, 2, 4, 6, 8, 10]


async def test_without_nodes_calls_are_refused_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(nodes=0) as w:
        waits_for_one = w.pool.submit(tasks.double, 1)
        monkeypatch.setattr("lifepool.backends.remote.availability.NO_NODES_S", 0.0)
        with pytest.raises(BackendUnavailable, match="it has no nodes"):
            await waits_for_one
        with pytest.raises(BackendUnavailable, match="it has no nodes"):
            await w.pool.run(tasks.double, 1)
        await w.node()
        await until(lambda: w.backend.why_unavailable() is None)
        assert await w.pool.run(tasks.double, 1) == 2


async def test_what_waits_at_the_broker_is_refused_too_when_there_are_no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(nodes=0) as w:
        handle = w.pool.submit(tasks.double, 1)
        await until(lambda: len(w.cluster.queue) == 1)
        monkeypatch.setattr("lifepool.backends.remote.availability.NO_NODES_S", 0.0)
        with pytest.raises(BackendUnavailable, match="it has no nodes"):
            await handle
        assert not w.cluster.queue


async def test_a_node_that_drains_hands_back_what_it_has_not_started(gate: Gate) -> None:
    async with world() as w:
        (first,) = w.cluster.nodes
        running = w.pool.submit(tasks.hold, gate.address, "finished")
        visitor = await gate.arrival()
        drained = asyncio.create_task(first.agent.drain(20))
        await until(lambda: w.backend.members.slots() == 0)
        await w.node()
        assert await w.pool.run(tasks.double, 3) == 6  # elsewhere
        visitor.let_through()
        assert await running == "finished"
        await drained


# --- security -------------------------------------------------------------------------------------


async def test_a_function_that_is_not_allowed_is_refused_with_advice() -> None:
    async with world() as w:
        with pytest.raises(BackendUnsupported, match="--allow posix") as refused:
            await w.pool.run(os.getpid)
        assert refused.value.capability == "allow"
        assert w.cluster.nodes[0].agent.refused == {"not allowed": 1}


async def test_unsigned_altered_and_replayed_calls_do_not_run(gate: Gate) -> None:
    async with world() as w:
        (node,) = w.cluster.nodes
        seen: list[Message] = []
        take = node.agent.take

        def take_and_keep(message: Message, done: Callable[[], object]) -> None:
            seen.append(message)
            take(message, done)

        node.agent.take = take_and_keep  # type: ignore[method-assign, assignment]
        assert await w.pool.run(tasks.double, 2) == 4
        (good,) = seen
        head = dict(Signer("a secret").verify(good, CALL), fn="tests.tasks:echo")
        forged = Signer("guessed").sign(CALL, {k: v for k, v in head.items() if k not in ("v", "kind")}, good.payload)
        for message in (forged, good._replace(head=good.head.replace(b"double", b"nest")), good):
            take(message)
        await until(lambda: node.agent.refused.total() == 3)
        assert node.agent.refused == {"unsigned": 2, "replayed": 1}
        assert w.pool.statistics().completed == 1


async def test_a_call_that_another_node_has_claimed_is_not_run_twice(gate: Gate) -> None:
    async with world(nodes=2) as w:
        handle = w.pool.submit(tasks.hold, gate.address, 1)
        visitor = await gate.arrival()
        (call,) = w.backend._calls
        assert call.message is not None
        other = next(node for node in w.cluster.nodes if not node.agent.running)
        other.agent.take(call.message)  # it is delivered twice
        await until(lambda: other.agent.refused["replayed"] == 1)
        visitor.let_through()
        assert await handle == 1
        assert gate.nobody_came()


async def test_nodes_with_another_secret_are_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifepool.backends.remote.availability.NO_NODES_S", 0.3)
    async with world(nodes=0) as w:
        w.cluster.secret = "another"
        await w.node()
        await until(lambda: w.backend.why_unavailable() is not None and w.backend.refused["unsigned"] > 0)
        with pytest.raises(BackendUnavailable, match="another secret"):
            await w.pool.run(tasks.double, 1)


# --- initializers, readiness ----------------------------------------------------------------------


async def test_the_initializer_of_a_client_is_called_once_in_each_worker_that_it_uses() -> None:
    async with world(initializer=tasks.load, initargs=("model",)) as w:
        first, second = [await w.pool.run(tasks.what_is_loaded) for _ in range(2)]
        assert first == second
        assert first[1] == ["model"]


async def test_an_initializer_that_fails_fails_the_calls() -> None:
    async with world(initializer=tasks.fail_to_load, initargs=("model",)) as w:
        with pytest.raises(Exception, match="model") as failed:
            await w.pool.run(tasks.double, 1)
        assert "the initializer" in str(failed.value.__notes__)


async def test_readiness_is_red_while_calls_are_refused() -> None:
    async with world() as w:
        assert w.pool.readiness().ready
        w.cluster.cut()
        await until(lambda: w.backend.why_unavailable() is not None)
        assert w.pool.readiness().reasons == ("unreachable",)
        w.cluster.mend()
        assert w.pool.readiness().ready


async def test_a_timeout_of_a_call_that_no_node_has_taken_says_that_it_waited() -> None:
    async with world(workers=1, ahead=1) as w:
        w.cluster.serve = lambda: None  # type: ignore[method-assign]  # its nodes take nothing
        with pytest.raises(TaskTimeout, match="while it was waiting") as late:
            await w.pool.run(tasks.double, 2, timeout=0.2)
        assert not late.value.started


async def test_a_call_that_may_have_been_delivered_before_is_for_its_client_to_decide(gate: Gate) -> None:
    async with world(nodes=2, workers=1) as w:
        held = w.pool.submit(tasks.hold, gate.address, "ran once")
        visitor = await gate.arrival()
        (call,) = w.backend._calls
        await until(lambda: call.node is not None)
        assert call.message is not None
        idle = next(node for node in w.cluster.nodes if node.agent.node != call.node)
        idle.agent.take(call.message, doubtful=True)
        await until(lambda: not idle.agent.running)
        visitor.let_through()
        assert await held == "ran once"
        assert (w.pool.statistics().completed, w.pool.statistics().retried) == (1, 0)


async def test_a_call_that_came_again_and_is_nowhere_is_tried_again() -> None:
    async with world(nodes=1, workers=1, ahead=1) as w:
        (node,) = w.cluster.nodes
        serve, w.cluster.serve = w.cluster.serve, lambda: None  # type: ignore[method-assign]
        waits = w.pool.submit(tasks.double, 4, retries=1)
        await until(lambda: bool(w.cluster.queue))
        (call,) = w.backend._calls
        w.cluster.queue.clear()
        assert call.message is not None
        node.agent.take(call.message, doubtful=True)
        await until(lambda: call.search_at is not None and not node.agent.running)
        w.cluster.serve = serve  # type: ignore[method-assign]
        assert await waits == 8


@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0])
async def test_calls_say_by_how_much_the_clock_of_a_node_is_wrong(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    monkeypatch.setattr(LoopbackTransport, "tells_clocks", True)
    monkeypatch.setattr(LoopbackNode, "now", lambda node: time.time() + wrong_by)
    monkeypatch.setattr(LoopbackNode, "skew_s", 5.0)
    monkeypatch.setattr(node_module, "now_here", lambda: {"time": time.time() + wrong_by})
    async with world(nodes=2) as w:
        assert await w.pool.run(tasks.double, 2, timeout=20) == 4
        held = w.pool.submit(tasks.hold, gate.address, timeout=3.0)
        await gate.arrival()
        (call,) = w.backend._calls
        assert call.message is not None
        busy = next(node for node in w.cluster.nodes if node.agent.running)
        with pytest.raises(TaskTimeout):
            await held
        assert await w.pool.run(tasks.double, 2, timeout=20) == 4
        late = await w.node()
        late.agent.take(call.message)  # its client did not know this one, whose clock is wrong as well
        await until(lambda: late.agent.refused["expired"] == 1)
        assert busy.agent.refused == {}
        assert list(w.backend.members.clocks.values()) == pytest.approx([wrong_by] * 3, abs=30)
