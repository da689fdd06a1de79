"""The actor of a Ray node without Ray around it: its clients come, go silent and leave, and in the end it does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from lifepool.backends.ray import frames
from lifepool.backends.remote import messages as msg
from lifepool.backends.remote.messages import Message, Signer
from lifepool.nodes import ray_node
from lifepool.nodes.ray_node import RayNode
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SIGNER = Signer(None)


class Surroundings:
    """What Ray says to an actor.

    Attributes:
        killed: Whether the actor has had itself killed.
        draining: Seconds until the machine is drained; None if it is not.
    """

    current_actor = "me"

    def __init__(self) -> None:
        self.killed = False
        self.draining: float | None = None

    def get_node_id(self) -> str:
        return "here"

    def kill(self, actor: object) -> None:
        assert actor == "me"
        self.killed = True


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    around = Surroundings()
    monkeypatch.setattr("ray.get_runtime_context", lambda: around)
    monkeypatch.setattr("ray.kill", around.kill)
    monkeypatch.setattr(ray_node, "_seconds_until_drained", lambda node: around.draining)
    monkeypatch.setattr(ray_node, "LOOK_S", 0.05)
    return around


@contextlib.asynccontextmanager
async def running(workers: int = 1) -> AsyncIterator[RayNode]:
    node = RayNode(workers)
    try:
        yield node
    finally:
        assert node._upkeep is not None
        node._upkeep.cancel()
        await asyncio.gather(node._upkeep, return_exceptions=True)
        await node._agent.close()
        await node._pool.aclose()


def call(client: str, number: int, path: str, *args: Any) -> Message:
    import pickle

    fields = {
        "id": f"{client}-{number}", "client": client, "fn": path, "issued": time.time(), "left": None, "limit": 1 << 22,
    }  # fmt: skip
    return SIGNER.sign(msg.CALL, fields, pickle.dumps(([], args)))


async def outcomes(node: RayNode, client: str, *calls: Message, count: int) -> list[dict[str, Any]]:
    """Exchange until there are so many outcomes."""
    found: list[dict[str, Any]] = []
    batch = frames.join((True, each) for each in calls)
    while len(found) < count:
        _, messages = frames.split_reply(await node.exchange(client, batch))
        batch = b""
        heads = [SIGNER.verify_head(message, msg.OUTCOME, msg.NODE, msg.PROGRESS) for _, message in messages]
        found += [head for head in heads if head["kind"] == msg.OUTCOME]
    return found


@pytest.mark.usefixtures("around")
async def test_outcomes_come_with_the_reply_of_an_exchange() -> None:
    async with running() as node:
        hello = await node.hello("c", time.time())
        assert (hello["slots"], hello["received"], hello["takes_more"]) == (1, 0, True)
        (outcome,) = await outcomes(node, "c", call("c", 1, "tests.tasks:double", 2), count=1)
        assert outcome["status"] == msg.RETURNED
        assert (await node.hello("c", time.time()))["done"] == 1


@pytest.mark.usefixtures("around")
async def test_a_call_that_runs_long_is_confirmed_by_a_reply_of_its_own(gate: Gate) -> None:
    async with running() as node:
        await node.hello("c", time.time())
        batch = frames.join([(True, call("c", 1, "tests.tasks:hold", gate.address))])
        load, _ = frames.split_reply(await node.exchange("c", batch))
        while load.received == 0:
            load, _ = frames.split_reply(await node.exchange("c", b""))
        assert (load.received, load.done) == (1, 0)
        (await gate.arrival()).let_through()


@pytest.mark.usefixtures("around")
async def test_a_client_that_comes_again_gets_what_the_driver_before_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifepool.backends.remote.node.BEAT_S", 60.0)  # a sign of life would be an answer, too
    async with running() as node:
        await node.hello("c", time.time())
        pending = asyncio.create_task(node.exchange("c", b""))  # its driver is killed now
        await until(lambda: node._clients["c"].is_waiting)
        await node.hello("c", time.time())
        load, messages = frames.split_reply(await pending)
        assert (load.received, list(messages)) == (0, [])
        (outcome,) = await outcomes(node, "c", call("c", 1, "tests.tasks:double", 2), count=1)
        assert outcome["status"] == msg.RETURNED


@pytest.mark.usefixtures("around")
async def test_queued_work_of_a_silent_client_does_not_run(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    monkeypatch.setattr(ray_node, "CLIENT_S", 0.2)
    async with running() as node:
        await node.hello("c", time.time())
        calls = [call("c", number, "tests.tasks:hold", gate.address) for number in (1, 2)]
        dying = asyncio.create_task(node.exchange("c", frames.join((True, each) for each in calls)))
        visitor = await gate.arrival()
        await dying  # and it calls no more
        await until(lambda: len(node._agent.running) == 1)
        visitor.let_through()
        await until(lambda: not node._agent.running)
        assert gate.nobody_came()


@pytest.mark.usefixtures("around")
async def test_a_call_whose_client_is_unknown_is_an_error_of_the_exchange() -> None:
    async with running() as node:
        await node.hello("c", time.time())
        with pytest.raises(LookupError):
            await node.exchange("another", b"")


@pytest.mark.usefixtures("around")
async def test_a_pool_that_takes_long_to_start_is_no_difference_of_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as node:
        begin, now, since = node._begin, time.time, [0.0]

        async def slowly() -> None:
            await begin()
            since[0] = 3600.0  # so long it took

        monkeypatch.setattr(node, "_begin", slowly)
        monkeypatch.setattr(time, "time", lambda: now() + since[0])
        await node.hello("c", now())
        (outcome,) = await outcomes(node, "c", call("c", 1, "builtins:abs", -1), count=1)
        assert outcome["status"] == msg.RETURNED


@pytest.mark.usefixtures("around")
@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0])
async def test_a_client_with_another_clock_is_understood(monkeypatch: pytest.MonkeyPatch, wrong_by: float) -> None:
    real = time.time
    async with running() as node:
        await node.hello("c", real() + wrong_by)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + wrong_by)
            sent = call("c", 1, "builtins:abs", -1)
        (outcome,) = await outcomes(node, "c", sent, count=1)
        assert outcome["status"] == msg.RETURNED


@pytest.mark.usefixtures("around")
async def test_a_large_reply_is_announced() -> None:
    async with running() as node:
        await node.hello("c", time.time())
        sent = frames.join([(True, call("c", 1, "tests.tasks:echo", bytes(frames.ANNOUNCED + 1)))])
        sizes: list[tuple[int, int]] = []
        while not sizes or sizes[-1][1] < frames.ANNOUNCED:
            reply = await node.exchange("c", sent)
            sizes.append((frames.split_reply(reply)[0].coming, len(reply)))
            sent = b""
        assert sizes[-2][0] >= frames.ANNOUNCED
        assert sizes[-1][0] == 0


async def test_it_ends_when_it_has_no_clients(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_node, "IDLE_S", 0.2)
    async with running() as node:
        await node.hello("c", time.time())
        await node.leave("c")
        await until(lambda: around.killed)


async def test_a_drained_machine_finishes_what_runs(around: Surroundings, gate: Gate) -> None:
    async with running() as node:
        await node.hello("c", time.time())
        waiting = asyncio.create_task(
            outcomes(node, "c", *(call("c", n, "tests.tasks:hold", gate.address) for n in (1, 2)), count=2)
        )
        visitor = await gate.arrival()
        around.draining = 20.0
        await until(lambda: not node._is_open)
        visitor.let_through()
        assert sorted(outcome["status"] for outcome in await waiting) == [msg.RETURNED, msg.UNSTARTED]
        await until(lambda: around.killed)
