"""Short calls share envelopes; each keeps what is its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lifepool import Pool, TaskTimeout
from lifepool.backends.remote import node as node_module
from lifepool.backends.remote import sending
from lifepool.backends.remote.calls import Calls
from lifepool.backends.remote.loopback import LoopbackCluster, LoopbackTransport
from lifepool.backends.remote.members import Members
from lifepool.backends.remote.messages import Message, Signer
from lifepool.backends.remote.pace import ENVELOPE_S, HANDED_BACK_S, LEAST_S, MOST_REMEMBERED, SHORT_S, Pace
from lifepool.backends.remote.sending import ENVELOPE_BYTES, SMALL_BYTES, Sending
from tests import tasks
from tests.engine.conftest import gate as gate
from tests.engine.gates import Gate, until


class Payload:
    def __init__(self, spec: str, size: int = 10) -> None:
        self.spec = spec
        self.size = size
        self.pickled = b"x"


class Wire:
    """Where envelopes go."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []

    def now(self) -> float:
        return 0.0

    def send(self, calls: Any) -> None:
        self.sent.append([id for id, _ in calls])


class Deadlines:
    def time_left(self, task: int) -> float | None:
        return None


class Desk:
    """What sends, with all that it needs."""

    def __init__(self) -> None:
        self.calls, self.pace, self.wire = Calls("c"), Pace(), Wire()
        self.again = asyncio.Event()
        wire: Any = self.wire
        self.sending = Sending(self.calls, Members(), self.pace, wire, Signer(None), {}, self.again.set)
        self._tasks = 0

    def add(self, spec: str, count: int = 1, size: int = 10) -> None:
        for _ in range(count):
            self._tasks += 1
            payload: Any = Payload(spec, size)
            self.calls.add(self._tasks, payload)

    def flush(self) -> list[int]:
        before = len(self.wire.sent)
        self.sending.flush(Deadlines())
        return [len(ids) for ids in self.wire.sent[before:]]


@pytest.fixture(autouse=True)
def long_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gather for a second: on a busy machine more than ten milliseconds may pass between two lines of a test."""
    monkeypatch.setattr(sending, "GATHER_S", 1.0)


async def test_calls_travel_alone_until_they_are_known_to_be_short() -> None:
    desk = Desk()
    desk.add("m:f", 3)
    assert desk.flush() == [1, 1, 1]
    desk.pace.took("m:f", 0.0001)
    desk.add("m:f", 3)
    assert desk.flush() == [3]


async def test_short_calls_gather_while_an_envelope_is_on_its_way_and_long_ones_do_not_wait() -> None:
    desk = Desk()
    desk.pace.took("m:f", 0.0001)
    desk.pace.took("m:long", 2 * SHORT_S)
    desk.add("m:f")
    assert desk.flush() == [1]  # at once: nothing was on its way
    desk.add("m:f", 2)
    desk.add("m:long", 2)
    assert desk.flush() == [1, 1]  # the long ones
    desk.add("m:f", 2)
    assert desk.flush() == []
    first = desk.calls.get("c-1")
    assert first is not None
    desk.calls.taken(first, "node")
    assert desk.flush() == [4]


async def test_what_was_gathered_leaves_after_a_moment_though_no_node_takes_anything() -> None:
    desk = Desk()
    desk.pace.took("m:f", 0.0001)
    desk.add("m:f")
    desk.flush()
    desk.add("m:f", 2)
    assert desk.flush() == []
    await asyncio.wait_for(desk.again.wait(), 30)
    assert desk.flush() == [2]
    desk.sending.close()


async def test_an_envelope_has_bounds_of_time_and_size() -> None:
    desk = Desk()
    desk.pace.took("m:f", ENVELOPE_S / 4.5)
    desk.add("m:f", 9)
    assert desk.flush() == [4, 4, 1]
    desk = Desk()
    desk.pace.took("m:f", LEAST_S)
    desk.add("m:f", 20, SMALL_BYTES)
    desk.add("m:f", 1, SMALL_BYTES + 1)
    assert sorted(desk.flush()) == [1, 20 - ENVELOPE_BYTES // SMALL_BYTES, ENVELOPE_BYTES // SMALL_BYTES]


def test_a_function_becomes_short_again_after_it_was_handed_back() -> None:
    pace = Pace()
    pace.took("m:f", 0.0)
    pace.was_handed_back("m:f")
    assert pace.run_s("m:f") is None
    runs = 0
    while pace.run_s("m:f") is None:
        pace.took("m:f", 0.0)
        runs += 1
    assert 5 < runs < 20
    assert HANDED_BACK_S > SHORT_S


def test_functions_that_are_not_called_are_forgotten() -> None:
    pace = Pace()
    for number in range(MOST_REMEMBERED + 1):
        pace.took(f"m:f{number}", 0.0)
    assert pace.run_s("m:f0") is None
    assert pace.run_s({"partial": f"m:f{MOST_REMEMBERED}"}) is None
    assert pace.run_s(f"m:f{MOST_REMEMBERED}") == LEAST_S


class Sharing(LoopbackTransport):
    """Hands over all calls of an envelope to one node at once, as Celery does."""

    def send(self, calls: Any) -> None:
        packed = [message.pack() for _, message in calls]
        (node,) = self._cluster.nodes
        for each in packed:
            node.agent.take(Message.unpack(each), shares=len(packed) > 1)


async def test_each_call_of_an_envelope_has_its_own_deadline_cancellation_and_outcome(
    monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr("lifepool.backends.remote.loopback.LoopbackTransport", Sharing)
    monkeypatch.setattr("lifepool.backends.remote.pace.SHORT_S", 60.0)
    monkeypatch.setattr("lifepool.backends.remote.sending.ENVELOPE_S", 1000.0)
    monkeypatch.setattr(node_module, "HAND_BACK_S", 60.0)
    cluster = LoopbackCluster()
    async with Pool(max_workers=2) as local, cluster.node(local):
        backend = cluster.backend(ahead=5)
        async with Pool(backend=backend) as pool:
            backend._pace.took("tests.tasks:hold_in_c", 0.0)
            backend._pace.took("tests.tasks:double", 0.0)
            backend._pace.took("tests.tasks:fail_deeply", 0.0)
            cancelled = pool.submit(tasks.hold_in_c, gate.address)
            timed_out = pool.submit(tasks.hold_in_c, gate.address, timeout=3.0)
            doubled = pool.submit(tasks.double, 4)
            failed: Any = pool.submit(tasks.fail_deeply)
            for _ in range(2):
                await gate.arrival()
            envelopes = {id(call.envelope) for call in backend._calls}
            assert len(envelopes) == 1
            cancelled.cancel()
            with pytest.raises(TaskTimeout):
                await timed_out
            assert await doubled == 8
            with pytest.raises(ValueError, match="deep down"):
                await failed
            assert cancelled.cancelled()


async def test_what_waits_behind_a_long_call_of_its_envelope_is_handed_back(
    monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr("lifepool.backends.remote.loopback.LoopbackTransport", Sharing)
    cluster = LoopbackCluster()
    async with Pool(max_workers=1) as local, cluster.node(local):
        backend = cluster.backend(ahead=5)
        async with Pool(backend=backend) as pool:
            backend._pace.took("tests.tasks:hold", 0.0)
            backend._pace.took("tests.tasks:double", 0.0)
            long = pool.submit(tasks.hold, gate.address, "long")
            waits = pool.submit(tasks.double, 4)
            visitor = await gate.arrival()
            await until(lambda: backend._pace.run_s("tests.tasks:double") is None)
            visitor.let_through()
            assert await long == "long"
            assert await waits == 8
