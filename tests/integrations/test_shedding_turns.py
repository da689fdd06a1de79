"""Admitted requests begin a few in each turn of the event loop, and all of them do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lifepool.integrations.shedding.turns import LEAST_BEGUN, MOST_BEGUN, TURN_S, Turns
from tests.engine.gates import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 5 * LEAST_BEGUN + 2


class Clock:
    """A clock that moves when the tests say so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Burst:
    """Requests that come together.

    Args:
        turns: Where they wait.
        clock: They move it.
        begin_s: Seconds that each takes to begin.
        other_s: Seconds of other work in each turn of the loop.
        slow_from: Those from this number on take a bit more than a sixth of ``TURN_S``.
    """

    def __init__(
        self, turns: Turns, clock: Clock, begin_s: float = 0.0, other_s: float = 0.0, slow_from: int = 1000
    ) -> None:
        self.order: list[int] = []
        self._turns, self._clock = turns, clock
        self._begin_s, self._other_s = begin_s, other_s
        self._slow_from = slow_from

    async def _begin(self, number: int) -> None:
        if not self._turns.take():
            await self._turns.wait()
        self._clock.now += self._begin_s if number < self._slow_from else TURN_S / 5.9
        self.order.append(number)

    async def all(self, count: int) -> list[int]:
        """Let so many begin; return how many did in each turn in which some did."""
        each_turn, before = list[int](), len(self.order)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._begin(number))
            while sum(each_turn) < count:
                seen = len(self.order)
                self._clock.now += self._other_s
                await asyncio.sleep(0)
                each_turn.append(len(self.order) - seen)
        assert len(self.order) == before + count
        return [number for number in each_turn if number]


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it never does")


@pytest.mark.all_loops
async def test_a_burst_begins_in_parts_and_in_its_order() -> None:
    turns = Turns(clock := Clock())
    burst = Burst(turns, clock, begin_s=TURN_S)
    assert await burst.all(BURST) == [LEAST_BEGUN] * 5 + [2]
    assert burst.order == list(range(BURST))
    assert await burst.all(2) == [2], "later ones find places"
    assert len(turns) == 0


@pytest.mark.all_loops
async def test_more_begin_while_they_take_little_time_and_no_more_than_have_time_once_they_take_much() -> None:
    turns = Turns(clock := Clock())
    growing = await Burst(turns, clock, begin_s=TURN_S / 1000).all(500)
    assert growing[:6] == [LEAST_BEGUN, LEAST_BEGUN, 8, 16, 32, MOST_BEGUN], "the first have not waited"
    assert set(growing[5:-1]) == {MOST_BEGUN}
    burst = Burst(turns, clock, slow_from=sum(growing[:6]))
    slowing = await burst.all(300)
    assert slowing[:6] == growing[:6]
    assert set(slowing[6:-1]) == {6}, "the others give their places back"
    assert burst.order == list(range(300))


async def test_those_that_give_their_places_back_keep_their_order_and_no_more_than_ever_begin_in_a_turn() -> None:
    turns = Turns(clock := Clock())
    order = list[int]()

    async def begin(number: int) -> None:
        await turns.wait()
        clock.now += TURN_S / 2 if number % 37 < 4 else TURN_S / 1000
        order.append(number)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for number in range(1000):
            group.create_task(begin(number))
        while len(order) < 1000:
            await asyncio.sleep(0)
            assert turns._places <= MOST_BEGUN
    assert order == list(range(1000))


async def test_the_time_of_a_turn_bounds_those_too_that_find_places() -> None:
    turns = Turns(clock := Clock())
    turns._places = turns._left = MOST_BEGUN  # as a burst of quick ones leaves it
    taken = 0
    while turns.take():
        taken += 1
        clock.now += TURN_S
    assert taken == LEAST_BEGUN


async def test_those_that_give_their_places_back_wait_for_as_long_as_ever() -> None:
    turns = Turns(clock := Clock())
    burst = Burst(turns, clock, slow_from=60)
    begin = asyncio.create_task(burst.all(100))
    await turns_until(lambda: len(burst.order) >= 60)
    clock.now += 1.0
    await asyncio.sleep(0)
    assert len(turns) > LEAST_BEGUN
    assert turns.wait_s(0) > 1.0
    await begin


async def test_what_else_the_loop_does_takes_no_places_away() -> None:
    turns = Turns(clock := Clock())
    begun = await Burst(turns, clock, begin_s=TURN_S / 1000, other_s=10 * TURN_S).all(500)
    assert begun[5:7] == [MOST_BEGUN] * 2


async def test_how_many_may_begin_is_forgotten_when_nobody_waits_any_more() -> None:
    turns = Turns(clock := Clock())
    await Burst(turns, clock).all(500)
    for _ in range(3):
        await asyncio.sleep(0)
    assert (await Burst(turns, clock, begin_s=TURN_S).all(20))[:2] == [LEAST_BEGUN] * 2


async def test_how_long_one_will_wait_is_learned_from_turns() -> None:
    turns = Turns(clock := Clock())
    assert turns.wait_s(1000) == 0.0, "nothing is known"
    burst = asyncio.create_task(Burst(turns, clock, begin_s=TURN_S, other_s=TURN_S).all(50 * LEAST_BEGUN))
    for _ in range(40):
        await asyncio.sleep(0)
    turn_s, waiting = (LEAST_BEGUN + 1) * TURN_S, len(turns)
    assert waiting > LEAST_BEGUN
    many = 1000 * LEAST_BEGUN
    assert turns.wait_s(many) == pytest.approx((waiting + many) / LEAST_BEGUN * turn_s, rel=0.05)
    assert turns.wait_s(0) == pytest.approx(clock.now, abs=2 * turn_s), "as long as the first of them has waited"
    await burst
    for _ in range(3):
        await asyncio.sleep(0)
    assert turns.wait_s(many) == 0.0, "the next burst may be of other requests"


async def test_one_long_turn_counts_for_no_more_than_a_step() -> None:
    turns = Turns(clock := Clock())
    assert turns.take()
    clock.now += 1.0
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(turns.wait()) for _ in range(3 * LEAST_BEGUN)]
    await asyncio.sleep(0)
    assert turns.wait_s(20 * LEAST_BEGUN) < 4 * TURN_S
    await asyncio.gather(*waiting)


async def test_who_is_cancelled_while_waiting_takes_no_place() -> None:
    turns = Turns(Clock())
    for _ in range(LEAST_BEGUN):
        assert turns.take()
    waiting = [asyncio.create_task(turns.wait()) for _ in range(2 * LEAST_BEGUN)]
    await asyncio.sleep(0)
    assert len(turns) == 2 * LEAST_BEGUN
    for each in waiting[:LEAST_BEGUN]:
        each.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*waiting[LEAST_BEGUN:])
    assert all(each.cancelled() for each in waiting[:LEAST_BEGUN])
    assert len(turns) == 0


async def test_who_is_cancelled_after_it_gave_its_place_back_takes_none() -> None:
    turns = Turns(clock := Clock())
    begun = list[int]()

    async def begin(number: int) -> None:
        await turns.wait()
        clock.now += TURN_S
        begun.append(number)

    tasks = [asyncio.create_task(begin(number)) for number in range(4 * LEAST_BEGUN)]
    turns._places = turns._left = MOST_BEGUN
    await turns_until(lambda: len(begun) >= LEAST_BEGUN)
    assert len(turns._waiting) == 2 * LEAST_BEGUN, "the first of them have a place again"
    for each in tasks[2 * LEAST_BEGUN : 3 * LEAST_BEGUN]:
        each.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait(tasks)
    assert begun == [*range(2 * LEAST_BEGUN), *range(3 * LEAST_BEGUN, 4 * LEAST_BEGUN)]
    assert len(turns) == 0
