"""Admitted requests begin a few in each turn of the event loop, and all of them do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from lifepool.integrations.shedding import LoadShedding
from lifepool.integrations.shedding.admitted import ARRIVING_S, AdmittedRequest, AdmittedRequests
from lifepool.integrations.shedding.controller import UNKNOWN_WAITING
from lifepool.integrations.shedding.turns import LEAST_BEGUN, MOST_BEGUN, TURN_S, Turns
from tests.engine.gates import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BURST = 5 * LEAST_BEGUN + 2


class Clock:
    """A clock that turns of the loop move: each takes as long as it is told."""

    def __init__(self, turn_s: float) -> None:
        self.turn_s = turn_s
        self._now = 0.0

    def __call__(self) -> float:
        self._now += self.turn_s  # it is asked once at the beginning, and once at the end
        return self._now


async def begun(turns: Turns, count: int, order: list[int] | None = None) -> list[int]:
    """Let so many begin together; return how many did in each turn."""
    each_turn: list[int] = []
    begun = 0

    async def begin(number: int) -> None:
        nonlocal begun
        if not turns.take():
            await turns.wait()
        begun += 1
        if order is not None:
            order.append(number)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(begin(number))
        while begun < count:
            before = begun
            await asyncio.sleep(0)
            each_turn.append(begun - before)
    return [number for number in each_turn if number]


@pytest.mark.all_loops
async def test_a_burst_begins_in_parts_and_in_its_order() -> None:
    turns, order = Turns(Clock(2 * TURN_S)), list[int]()
    assert await begun(turns, BURST, order) == [LEAST_BEGUN] * 5 + [2]
    assert order == list(range(BURST))
    assert await begun(turns, 2) == [2], "later ones find places"
    assert len(turns) == 0


async def test_more_begin_while_turns_are_short_and_fewer_once_they_are_long() -> None:
    turns = Turns(clock := Clock(TURN_S / 10))
    growing = await begun(turns, 500)
    assert growing[:5] == [LEAST_BEGUN, 8, 16, 32, MOST_BEGUN]
    assert set(growing[4:-1]) == {MOST_BEGUN}
    clock.turn_s = 2 * TURN_S
    assert (await begun(turns, 150))[:5] == [MOST_BEGUN, 32, 16, 8, LEAST_BEGUN]
    clock.turn_s = 0.7 * TURN_S
    assert set((await begun(turns, 50))[:-1]) == {LEAST_BEGUN}, "neither short nor long"


async def test_who_is_cancelled_while_waiting_takes_no_place() -> None:
    turns = Turns(Clock(2 * TURN_S))
    for _ in range(LEAST_BEGUN):
        assert turns.take()
    waiting = [asyncio.create_task(turns.wait()) for _ in range(2 * LEAST_BEGUN)]
    await asyncio.sleep(0)
    for each in waiting[:LEAST_BEGUN]:
        each.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*waiting[LEAST_BEGUN:])
    assert all(each.cancelled() for each in waiting[:LEAST_BEGUN])
    assert len(turns) == 0


def scope(path: str = "/") -> dict[str, Any]:
    return {"type": "http", "path": path, "headers": [], "method": "GET"}


async def receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


class Answers:
    """What the server would send: the status of each answer, in order."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])


def answering(handler: Callable[[], Awaitable[object]]) -> Callable[..., Awaitable[None]]:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await handler()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def test_a_probe_is_answered_before_a_burst_has_begun() -> None:
    begun, answers = 0, Answers()

    async def handle() -> None:
        nonlocal begun
        begun += 1

    async with Pool(max_workers=1) as pool:
        service = LoadShedding(answering(handle), pool=pool)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for _ in range(BURST):
                group.create_task(service(scope(), receive, answers))
            await group.create_task(service(scope("/health"), receive, answers))
            assert begun <= LEAST_BEGUN + 1
    assert answers.statuses == [200] * (BURST + 1)


def admitted(requests: AdmittedRequests, now: float = 0.0) -> AdmittedRequest:
    return requests.begin(scope(), receive, requests.admit(now))


async def test_those_who_wait_for_their_turn_count_as_tasks_to_come_for_however_long() -> None:
    requests = AdmittedRequests()
    for _ in range(50):  # all of them submit a task
        requests.submitted(admitted(requests))
    assert requests.arriving(0.0) == 0
    burst = [asyncio.create_task(requests.turn(admitted(requests))) for _ in range(BURST)]
    await asyncio.sleep(0)
    assert requests.arriving(10 * ARRIVING_S) == pytest.approx(BURST - LEAST_BEGUN, rel=0.01)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*burst)
    assert requests.arriving(10 * ARRIVING_S) == pytest.approx(BURST - LEAST_BEGUN, rel=0.01), "now they arrive"
    assert requests.arriving(20 * ARRIVING_S) == 0, "they submit nothing"


async def test_the_share_of_those_that_submit_tasks_is_learned_from_the_last_ones() -> None:
    requests = AdmittedRequests()
    for _ in range(10):
        admitted(requests)
    assert requests.arriving(0.0) == 0, "before it is known of any"
    for count in (1, 9):
        for _ in range(count):
            requests.submitted(admitted(requests))
        assert requests.arriving(0.0) == pytest.approx(10 * (1 - 0.9 ** (count if count == 1 else 10)))
    for _ in range(50):
        requests.end(admitted(requests))
    assert requests.arriving(0.0) < 0.1


async def test_requests_that_submit_nothing_are_not_refused_because_many_wait_for_their_turn() -> None:
    answers = Answers()

    async def handle() -> None:
        await asyncio.sleep(0)

    async with Pool(max_workers=1) as pool:
        service = LoadShedding(answering(handle), pool=pool)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for _ in range(20 * UNKNOWN_WAITING):
                group.create_task(service(scope(), receive, answers))
    assert set(answers.statuses) == {200}


async def test_a_request_that_is_cancelled_while_it_waits_for_its_turn_is_forgotten() -> None:
    answers, never = Answers(), asyncio.Event()
    async with Pool(max_workers=1) as pool:
        service = LoadShedding(answering(never.wait), pool=pool)
        requests = [asyncio.create_task(service(scope(), receive, answers)) for _ in range(BURST)]
        await asyncio.sleep(0)
        for each in requests:
            each.cancel()
        await asyncio.wait(requests)
        assert service._requests.under_way == 0
        assert service._requests._arriving_count == 0
        for _ in range(BURST):
            await asyncio.sleep(0)
        assert len(service._requests._turns) == 0
