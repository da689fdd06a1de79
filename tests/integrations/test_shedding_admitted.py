"""Admitted requests wait for their turn, are counted until they submit a task, and all of them go on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from lifepool.integrations.shedding import LoadShedding, middleware
from lifepool.integrations.shedding.admitted import ARRIVING_S, AdmittedRequest, AdmittedRequests
from lifepool.integrations.shedding.controller import BURST as BURST_TARGETS
from lifepool.integrations.shedding.controller import KNOWN_RUNS, UNKNOWN_WAITING
from lifepool.integrations.shedding.turns import LEAST_BEGUN, TURN_S
from tests.engine.gates import PATIENCE_S
from tests.integrations.test_shedding_turns import BURST, Clock, turns_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


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


async def test_a_probe_is_answered_before_a_burst_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, answers = 0, Answers()

    async def handle() -> None:
        nonlocal begun
        begun += 1

    async with Pool(max_workers=1) as pool:
        service = LoadShedding(answering(handle), pool=pool)
        on_clock(service, Clock(), monkeypatch)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for _ in range(BURST):
                group.create_task(service(scope(), receive, answers))
            await group.create_task(service(scope("/health"), receive, answers))
            assert begun <= LEAST_BEGUN + 1
    assert answers.statuses == [200] * (BURST + 1)


def admitted(requests: AdmittedRequests, now: float = 0.0) -> AdmittedRequest:
    return requests.begin(scope(), receive, requests.admit(now))


async def test_those_who_wait_for_their_turn_count_as_tasks_to_come_for_however_long() -> None:
    requests = AdmittedRequests(clock := Clock())
    clock.now = 2 * ARRIVING_S
    burst = [admitted(requests) for _ in range(BURST)]
    assert requests.arriving(0.0) == BURST
    assert requests.arriving(2 * ARRIVING_S) == 0, "the app has never heard of them"
    tasks = [asyncio.create_task(requests.turn(each)) for each in burst]
    counts = list[float]()
    async with asyncio.timeout(PATIENCE_S):
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            counts.append(requests.arriving(2 * ARRIVING_S))
    assert counts == [BURST] * len(counts), "also when they have a place, and when they have begun"
    for each in burst[:4]:
        requests.submitted(each)
    assert requests.arriving(2 * ARRIVING_S) == BURST - 4
    assert requests.arriving(4 * ARRIVING_S) == 0, "they submit nothing"


async def test_the_share_of_those_that_submit_tasks_is_learned_from_the_last_ones() -> None:
    requests = AdmittedRequests(Clock())
    begun = [admitted(requests, now=-1.0) for _ in range(51)]
    for _ in range(10):
        admitted(requests)
    assert requests.arriving(0.0) == 10, "before it is known of any"
    for each in begun[:2]:
        await requests.turn(each)
    requests.end(begun[0])
    assert requests.arriving(0.0) == pytest.approx(11 * 0.9)
    requests.submitted(begun[1])
    assert requests.arriving(0.0) == pytest.approx(10 * 0.91)
    requests.end(begun[2])
    assert requests.arriving(0.0) == pytest.approx(10 * 0.91), "it was cancelled before it began"
    for each in begun[3:]:
        await requests.turn(each)
        requests.end(each)
    assert requests.arriving(0.0) == pytest.approx(10 * 0.5), "no less: the next ones may be of another kind"
    await requests.turn(admitted(requests))
    assert requests.arriving(0.0) == pytest.approx(10 * 0.5, abs=0.01), "one that has begun most likely is not"


class LateBody:
    """A body whose end comes when the test says so."""

    def __init__(self) -> None:
        self.is_there = asyncio.Event()

    async def __call__(self) -> Any:
        await self.is_there.wait()
        return {"type": "http.request", "body": b"x", "more_body": False}


async def test_requests_whose_bodies_come_later_go_on_a_few_in_each_turn() -> None:
    requests, body = AdmittedRequests(clock := Clock()), LateBody()
    went_on, each_turn = 0, list[int]()

    async def handle(request: AdmittedRequest) -> None:
        nonlocal went_on
        await requests.turn(request)
        assert (await request.receive())["body"] == b"x"
        clock.now += TURN_S / LEAST_BEGUN
        went_on += 1

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(BURST):
            group.create_task(handle(requests.begin(scope(), body, requests.admit(0.0))))
        await turns_until(lambda: len(requests._begun._entries) == BURST)
        clock.now += 2 * TURN_S
        body.is_there.set()
        while went_on < BURST:
            seen = went_on
            await asyncio.sleep(0)
            each_turn.append(went_on - seen)
            assert requests.arriving(clock.now) == BURST, "each counts once, wherever it waits"
    assert [number for number in each_turn if number] == [LEAST_BEGUN] * 5 + [2]


async def test_a_body_that_is_there_waits_for_no_turn_however_late_it_is_asked_for() -> None:
    requests = AdmittedRequests(clock := Clock())
    burst = [requests.begin(scope(), receive, requests.admit(0.0)) for _ in range(BURST)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*[requests.turn(each) for each in burst])
        clock.now += 10.0
        others = [asyncio.create_task(requests.turn(admitted(requests))) for _ in range(BURST)]
        await asyncio.sleep(0)
        for each in burst:
            with pytest.raises(StopIteration):  # as Starlette's `is_disconnected` asks, in a scope that is cancelled
                each.receive().send(None)
        assert requests.arriving(clock.now) == BURST, "those that wait, and nobody else"
        await asyncio.gather(*others)


async def test_a_request_that_submits_while_its_body_comes_is_expected_to_submit_no_more() -> None:
    requests, body = AdmittedRequests(Clock()), LateBody()
    request = requests.begin(scope(), body, requests.admit(0.0))
    await requests.turn(request)
    asked = asyncio.create_task(request.receive())
    await asyncio.sleep(0)
    request.tasks = 1
    requests.submitted(request)
    body.is_there.set()
    async with asyncio.timeout(PATIENCE_S):
        await asked
    assert requests.arriving(0.0) == 0


async def test_a_body_is_not_lost_if_who_waits_for_it_is_cancelled_while_it_waits_for_its_turn() -> None:
    requests, body = AdmittedRequests(Clock()), LateBody()
    request = requests.begin(scope(), body, requests.admit(0.0))
    await requests.turn(request)
    asked = asyncio.create_task(request.receive())
    for _ in range(3):
        await asyncio.sleep(0)
    body.is_there.set()
    for _ in range(LEAST_BEGUN):
        assert requests._turns.take()
    await asyncio.sleep(0)
    assert len(requests._turns) == 1
    asked.cancel()
    await asyncio.wait([asked])
    async with asyncio.timeout(PATIENCE_S):
        assert (await request.receive())["body"] == b"x"


async def test_the_end_of_a_body_that_nobody_handles_any_more_waits_for_no_turn() -> None:
    requests, body = AdmittedRequests(Clock()), LateBody()
    request = requests.begin(scope(), body, requests.admit(0.0))
    await requests.turn(request)
    asked = asyncio.create_task(request.receive())
    await asyncio.sleep(0)
    request.is_to_close()
    request.finish()
    body.is_there.set()
    async with asyncio.timeout(PATIENCE_S):
        await asked
    assert requests.arriving(0.0) == 0


async def test_of_a_burst_whose_handlers_wait_before_they_submit_no_more_are_admitted_than_may_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, ready = Answers(), asyncio.Event()

    async def handle() -> None:
        await ready.wait()
        await pool.run(len, "")

    async with Pool(max_workers=1, max_queue=10 * UNKNOWN_WAITING) as pool:
        service = LoadShedding(answering(handle), pool=pool)
        on_clock(service, Clock(), monkeypatch)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for _ in range(10 * UNKNOWN_WAITING):
                group.create_task(service(scope(), receive, answers))
            await asyncio.sleep(0)
            ready.set()
    assert answers.statuses.count(200) == UNKNOWN_WAITING


def on_clock(service: LoadShedding, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a service a clock; nothing looks at it but the requests, and who calls ``_beat``."""
    service._loop = asyncio.get_running_loop()
    service._requests = AdmittedRequests(clock)
    monkeypatch.setattr(middleware, "time", SimpleNamespace(monotonic=clock))


async def test_a_service_whose_loop_is_too_slow_refuses_and_the_wait_to_begin_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, answers, waits = Clock(), Answers(), list[float]()

    async def app(request: Any, _receive: Any, send: Any) -> None:
        waits.append(clock.now - request["came"])
        clock.now += TURN_S
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with Pool(max_workers=1) as pool:
        for _ in range(KNOWN_RUNS):
            await pool.run(len, "")
        service, target = LoadShedding(app, pool=pool), pool.config.target_wait
        on_clock(service, clock, monkeypatch)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for _ in range(300):  # twice as many come as can begin
                for _ in range(2 * LEAST_BEGUN):
                    group.create_task(service(scope() | {"came": clock.now}, receive, answers))
                await asyncio.sleep(0)
                service._beat(clock.now, 0.0)
    assert answers.statuses.count(503) > 700
    assert answers.statuses.count(200) > 700
    assert pool.statistics().requests["refused_loop"] == answers.statuses.count(503)
    assert max(waits) <= 1.5 * BURST_TARGETS * target
    assert max(waits[len(waits) // 2 :]) <= 1.5 * target, "once it is known for an overload"


async def test_what_comes_while_something_blocks_the_loop_once_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, answers = Clock(), Answers()
    blocks = [1.0]

    async def handle() -> None:
        clock.now += blocks.pop() if blocks else TURN_S / 100

    async with Pool(max_workers=1) as pool:
        for _ in range(KNOWN_RUNS):
            await pool.run(len, "")
        service = LoadShedding(answering(handle), pool=pool)
        on_clock(service, clock, monkeypatch)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(service(scope(), receive, answers))
            await asyncio.sleep(0)
            for _ in range(200):
                group.create_task(service(scope(), receive, answers))
    assert answers.statuses == [200] * 201


async def test_requests_that_wait_for_something_else_and_submit_nothing_are_admitted() -> None:
    answers, ready = Answers(), asyncio.Event()
    async with Pool(max_workers=1) as pool:
        service = LoadShedding(answering(ready.wait), pool=pool)
        ready.set()
        for _ in range(50):
            await service(scope(), receive, answers)
        ready.clear()
        requests = list[asyncio.Task[None]]()
        for _ in range(4 * UNKNOWN_WAITING):  # all of them are under way together
            requests.append(asyncio.create_task(service(scope(), receive, answers)))
            for _ in range(3):
                await asyncio.sleep(0)
        ready.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*requests)
    assert set(answers.statuses) == {200}


async def test_requests_that_submit_nothing_are_not_refused_because_many_wait_for_their_turn() -> None:
    answers = Answers()

    async def handle() -> None:
        await asyncio.sleep(0)

    async with Pool(max_workers=1) as pool:
        service = LoadShedding(answering(handle), pool=pool)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for count in [1] * 20 + [2 * (UNKNOWN_WAITING - LEAST_BEGUN)]:
                await asyncio.gather(*[group.create_task(service(scope(), receive, answers)) for _ in range(count)])
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
        assert service._requests.arriving(0.0) == 0
        for _ in range(BURST):
            await asyncio.sleep(0)
        assert len(service._requests._turns) == 0
