"""The body of a refused request that does not come: who ends the wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lifepool.integrations.shedding.refusals import DISCARD_S, Refusals

if TYPE_CHECKING:
    from lifepool.integrations.asgi import Message, Scope

NOON = 1000.0
SCOPE: Scope = {"type": "http", "http_version": "1.1", "headers": [(b"content-length", b"10")]}


class Waiting:
    """A request that is refused, and waits for the rest of its body."""

    def __init__(self, refusals: Refusals) -> None:
        self.sent: list[Message] = []
        self._pieces: asyncio.Queue[Message] = asyncio.Queue()
        self.task = asyncio.ensure_future(refusals.answer(SCOPE, self._pieces.get, self._send, NOON, 1))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def comes(self) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": b"0123456789", "more_body": False})

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.sent[0]["headers"]


async def test_a_body_is_waited_for_as_long_as_was_said_and_not_longer() -> None:
    refusals = Refusals()
    first, second = Waiting(refusals), Waiting(refusals)
    await asyncio.sleep(0)
    refusals.give_up_late(NOON + 0.99 * DISCARD_S)
    second.comes()
    await second.task
    assert not second.closes
    assert not first.task.done()
    refusals.give_up_late(NOON + DISCARD_S)
    await first.task
    assert first.closes


async def test_who_is_cancelled_by_the_server_is_not_answered() -> None:
    refusals = Refusals()
    for is_late in (False, True):
        waiting = Waiting(refusals)
        await asyncio.sleep(0)
        waiting.task.cancel()
        if is_late:
            refusals.give_up_late(NOON + DISCARD_S)
        with pytest.raises(asyncio.CancelledError):
            await waiting.task
        assert not waiting.sent
    refusals.give_up_late(NOON + DISCARD_S)  # nothing is left that could be


async def test_a_body_that_comes_as_it_is_given_up_costs_the_connection_only() -> None:
    refusals = Refusals()
    waiting = Waiting(refusals)
    await asyncio.sleep(0)
    waiting.comes()
    refusals.give_up_late(NOON + DISCARD_S)
    await waiting.task
    assert waiting.closes
    assert waiting.task.cancelling() == 0
