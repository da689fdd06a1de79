"""Parts of the Dask engine by themselves: a client's end of a connection to a node, with a node that is scripted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from distributed.comm import CommClosedError

from lifepool.backends.dask import link as link_module
from lifepool.backends.dask.line import BYE, CALL, DONE, LOAD, why
from lifepool.backends.dask.link import NodeLink
from lifepool.backends.remote.messages import VERSION, Message
from tests.engine.gates import until

CALLED = Message(b"head", b"signature", b"payload")


class Comm:
    """A connection of Dask's whose other end is the test."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.written: list[Any] = []
        self.is_closed = False

    async def read(self) -> Any:
        message = await self.incoming.get()
        if message is None:
            raise CommClosedError
        return message

    async def write(self, message: Any) -> None:
        self.written.append(message)

    def abort(self) -> None:
        self.is_closed = True

    def closed(self) -> bool:
        return self.is_closed

    async def close(self) -> None:
        self.is_closed = True

    def answer(self, node: str, queue: str = "lifepool", version: int = VERSION) -> None:
        self.incoming.put_nowait({"node": node, "queue": queue, "version": version, "trusts": True})

    def say(self, *items: Any) -> None:
        self.incoming.put_nowait(items)


class Owner:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def attached(self, *, again: bool) -> None:
        self.told.append(("attached", again))

    def received(self, message: Message) -> None:
        self.told.append(message)

    def unsent(self, ids: list[str]) -> None:
        self.told.append(("unsent", sorted(ids)))

    def freed(self) -> None:
        self.told.append("freed")

    def lost(self, node: str, reason: str) -> None:
        self.told.append(("lost", node))


class Worker:
    """A Dask worker that is scripted.

    Attributes:
        comms: The connections that were made to it.
        refuses: Whether it can't be reached any more.
    """

    def __init__(self) -> None:
        self.comms: list[Comm] = []
        self.owner = Owner()
        self.refuses = False

    async def connect(self, address: str, **_: Any) -> Comm:
        if self.refuses:
            raise OSError("refused")
        self.comms.append(Comm())
        return self.comms[-1]

    async def comm(self, number: int) -> Comm:
        await until(lambda: len(self.comms) > number)
        return self.comms[number]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    made = Worker()
    monkeypatch.setattr(link_module, "connect", made.connect)
    monkeypatch.setattr(link_module, "RETRY_FIRST_S", 0.001)
    return made


class Linked:
    """A link in a block."""

    def __init__(self, worker: Worker) -> None:
        greeting = {"client": "c", "version": VERSION}
        self._link = NodeLink("tcp://worker", greeting, "lifepool", {}, worker.owner)

    async def __aenter__(self) -> NodeLink:
        return self._link

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()


async def test_what_a_node_has_not_answered_when_it_ends_is_sent_anew(worker: Worker) -> None:
    async with Linked(worker) as link:
        comm = await worker.comm(0)
        comm.answer("n")
        comm.say((LOAD, 2, 0, True))
        await until(lambda: link.is_open)
        link.send("answered", CALLED)
        link.send("unseen", CALLED)
        await until(lambda: len(comm.written) == 2)
        assert [item[:2] for item in comm.written[1]] == [(CALL, "answered"), (CALL, "unseen")]
        worker.refuses = True
        comm.say((DONE, "answered"), (BYE,))
        await until(lambda: ("unsent", ["unseen"]) in worker.owner.told)
        assert not link.is_open
        comm.incoming.put_nowait(None)
        await until(lambda: ("lost", "n") in worker.owner.told)


async def test_a_connection_that_is_back_is_asked_and_counts_anew(worker: Worker) -> None:
    async with Linked(worker) as link:
        first = await worker.comm(0)
        first.answer("n")
        first.say((LOAD, 2, 0, True))
        await until(lambda: link.is_open)
        link.send("x", CALLED)
        assert link.rank() == (False, 0.5)
        first.incoming.put_nowait(None)
        second = await worker.comm(1)
        second.answer("n")
        second.say((LOAD, 2, 1, True))
        await until(lambda: link.is_open)
        assert ("attached", True) in worker.owner.told
        assert link.rank() == (False, 0.5)  # as the node says; it is not counted twice
        assert ("lost", "n") not in worker.owner.told


async def test_another_node_at_the_same_address_means_that_the_first_is_gone(worker: Worker) -> None:
    async with Linked(worker) as link:
        first = await worker.comm(0)
        first.answer("n")
        await until(lambda: link.is_attached)
        first.incoming.put_nowait(None)
        (await worker.comm(1)).answer("m")
        await until(lambda: ("lost", "n") in worker.owner.told)
        (await worker.comm(2)).answer("m")
        await until(lambda: link.node == "m")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"node": "n", "queue": "gpu", "version": VERSION, "trusts": True}, "of the queue 'gpu', not 'lifepool'"),
        ({"node": "n", "queue": "lifepool", "version": VERSION + 1, "trusts": True}, "another version of lifepool"),
        (["who", "knows"], "it runs no node"),
    ],
)
async def test_a_worker_that_is_not_for_us_is_named_and_tried_again(
    worker: Worker, caplog: pytest.LogCaptureFixture, answer: Any, reason: str
) -> None:
    async with Linked(worker) as link:
        (await worker.comm(0)).incoming.put_nowait(answer)
        (await worker.comm(1)).incoming.put_nowait(answer)
        third = await worker.comm(2)
        assert caplog.text.count(reason) == 1
        third.answer("n")
        await until(lambda: link.is_attached)


def test_reasons_are_words() -> None:
    assert why(CommClosedError("in <TCP (closed) at 0x7f>")) == "the connection broke"
    assert why(TimeoutError()) == "it does not answer"
    refused = OSError("timed out")
    refused.__cause__ = ConnectionRefusedError("refused")
    assert why(refused) == "timed out (refused)"
