"""The app's side of Ray, without Ray: the driver process that ends or hangs, and which node gets a call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest

from lifepool.backends.ray import frames, process
from lifepool.backends.ray.frames import ALIVE, ATTACHED, BATCH, LARGE, LOST, UP, Frame, Load
from lifepool.backends.ray.process import DriverProcess
from lifepool.backends.ray.transport import RayTransport
from lifepool.backends.remote import messages as msg
from lifepool.backends.remote.messages import VERSION, Message, Signer
from lifepool.backends.remote.urls import ClusterUrl
from tests.engine.gates import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SIGNER = Signer(None)


class Ends:
    """Takes note of what a driver process says."""

    def __init__(self) -> None:
        self.kinds: list[int] = []
        self.reasons: list[str] = []

    def took(self, frame: Frame) -> None:
        self.kinds.append(frame.kind)

    def ended(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PROGRAM", "tests.remote.ray_program")


@contextlib.asynccontextmanager
async def driver(does: str) -> AsyncIterator[Ends]:
    ends = Ends()
    running = DriverProcess({"does": does}, {}, ends)
    running.open()
    try:
        yield ends
    finally:
        await running.close()


@pytest.mark.parametrize(("does", "reason"), [("fail", "it was asked to"), ("break", "it broke")])
async def test_a_driver_that_ends_says_why_and_is_started_anew(does: str, reason: str) -> None:
    async with driver(does) as ends:
        await until(lambda: len(ends.reasons) >= 2)
    assert set(ends.reasons) == {reason}
    assert ends.kinds.count(UP) >= 2


async def test_a_driver_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SILENCE_S", 0.2)
    monkeypatch.setattr(process, "WATCH_S", 0.05)
    async with driver("hang") as ends:
        await until(lambda: bool(ends.reasons))
    assert ends.reasons[0] == "its driver process does not answer"


async def test_what_ray_prints_is_for_those_who_look_for_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "lifepool")
    async with driver("log"):
        await until(lambda: len(caplog.records) >= 2)
    said = {record.getMessage(): record.levelname for record in caplog.records}
    assert said == {"Ray: what Ray says": "DEBUG", "what we say": "WARNING"}


async def test_closing_ends_the_driver_and_is_no_failure() -> None:
    async with driver("live") as ends:
        await until(lambda: ALIVE in ends.kinds)
    assert ends.reasons == []


class Listener:
    """Takes note of what a transport reports."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def connected(self) -> None:
        self.told.append(("connected",))

    def disconnected(self, reason: str) -> None:
        self.told.append(("disconnected", reason))

    def received(self, message: Message) -> None:
        self.told.append(("received", message.payload))

    def unsent(self, ids: Sequence[str]) -> None:
        self.told.append(("unsent", *ids))

    def sent_to(self, node: str, ids: Sequence[str]) -> None:
        self.told.append((node, *ids))

    def is_there(self, node: str) -> None:
        self.told.append(("is there", node))

    def node_lost(self, node: str, reason: str) -> None:
        self.told.append(("lost", node))

    def news(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told


@contextlib.asynccontextmanager
async def transport() -> AsyncIterator[tuple[RayTransport, Listener, list[Frame]]]:
    """A transport whose driver process lives and says nothing; what it is sent is in the list."""
    listener = Listener()
    put: list[Frame] = []
    made = RayTransport(ClusterUrl("ray", "ray://localhost", "localhost"))
    await made.open(listener, "client")
    assert made._process is not None
    made._process.put = put.append  # type: ignore[method-assign, assignment]
    await until(lambda: ("connected",) in listener.told)
    listener.news()
    try:
        yield made, listener, put
    finally:
        await made.close()


def attached(number: int, node: str, **load: Any) -> Frame:
    fields = Load(slots=2, running=0, received=0, done=0, takes_more=True)._replace(**load)._asdict()
    return Frame.about(ATTACHED, number, node=node, version=VERSION, **fields)


def message(payload: bytes = b"x") -> Message:
    return SIGNER.sign(msg.CALL, {}, payload)


async def test_calls_wait_for_a_node_and_go_to_the_freest() -> None:
    async with transport() as (ray, listener, put):
        ray.send([("1", message())])
        assert listener.news() == []
        ray.took(attached(1, "a"))
        ray.took(attached(2, "b", slots=4))
        ray.send([("2", message()), ("3", message()), ("4", message())])
        assert listener.news() == [("a", "1"), ("b", "2"), ("b", "3"), ("a", "4")]
        await asyncio.sleep(0)
        assert [(frame.kind, frame.node, len(list(frames.split(frame.data)))) for frame in put] == [
            (BATCH, 1, 2),
            (BATCH, 2, 2),
        ]


async def test_a_node_that_takes_no_more_gets_nothing() -> None:
    async with transport() as (ray, listener, _):
        ray.took(attached(1, "a", takes_more=False))
        ray.send([("1", message())])
        assert await ray.take_back([("1", message()), ("2", message())]) == {"2"}
        assert listener.news() == []


async def test_a_node_that_comes_again_is_asked_what_became_of_calls() -> None:
    async with transport() as (ray, listener, _):
        ray.took(attached(1, "a"))
        assert listener.news() == []
        ray.took(attached(1, "a"))
        assert listener.news() == [("connected",)]
        ray.took(Frame.about(LOST, 1, reason="it was killed"))
        assert listener.news() == [("lost", "a")]


async def test_when_the_driver_ends_what_waits_is_given_back() -> None:
    async with transport() as (ray, listener, _):
        ray.send([("1", message())])
        ray.ended("it was killed")
        assert listener.news() == [("disconnected", "it was killed"), ("unsent", "1")]


async def test_a_node_behind_something_large_is_not_taken_to_be_silent() -> None:
    async with transport() as (ray, listener, _):
        ray.took(attached(1, "a"))
        ray.send([("1", message(bytes(4 * LARGE)))])
        await asyncio.sleep(0)
        listener.news()
        ray.took(Frame(ALIVE))
        assert listener.news() == [("is there", "a")]
        ray.took(Frame(BATCH, 1, frames.reply(Load(2, 1, 1, 0, takes_more=True), [message(b"y")])))
        ray.took(Frame(ALIVE))
        assert listener.news() == [("received", b"y")]
        coming = Load(2, 1, 1, 0, takes_more=True, coming=4 * LARGE)
        ray.took(Frame(BATCH, 1, frames.reply(coming, [])))
        ray.took(Frame(ALIVE))
        assert listener.news() == [("is there", "a")]


async def test_what_is_no_message_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with transport() as (ray, listener, _):
        ray.took(attached(1, "a"))
        good = frames.reply(Load(2, 0, 0, 0, takes_more=True), [message(b"y")])
        ray.took(Frame(BATCH, 1, good[:-1]))
        assert listener.news() == []
        assert "refused a message" in caplog.text
