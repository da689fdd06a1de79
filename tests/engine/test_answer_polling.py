"""The event loop's wait for the answer to a single task: awake for a moment, then asleep."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

import pytest

from lifepool import Pool
from lifepool._core.halt_polling import FIRST_S, SOON_S
from lifepool._engine import engine as engines
from lifepool._engine.answer_polling import AnswerPolling
from tests import tasks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

TURN_S = 10e-6


class Loop:
    """An event loop's turns, each of which takes 10 µs."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: deque[Callable[[], None]] = deque()
        self.polling = AnswerPolling(cast("asyncio.AbstractEventLoop", self), lambda: self.now)

    def call_soon(self, callback: Callable[[], None], *, context: object) -> None:
        self._planned.append(callback)

    def sleeps(self) -> bool:
        """Whether it has nothing to do."""
        return not self._planned

    def turn(self) -> None:
        """Run one turn."""
        self.now += TURN_S
        for _ in range(len(self._planned)):
            self._planned.popleft()()

    def wait(self, seconds: float) -> int:
        """Wait for an answer that comes after so many seconds; return the turns until the loop slept."""
        began, turns = self.now, 0
        self.polling.begin()
        while not self.sleeps() and self.now < began + seconds:
            self.turn()
            turns += 1
        self.now = began + seconds
        self.polling.end()
        return turns


def test_an_answer_that_comes_soon_finds_the_loop_awake() -> None:
    loop = Loop()
    assert loop.wait(3 * TURN_S) == 3
    loop.turn()
    assert loop.sleeps()


def test_the_loop_sleeps_when_nothing_comes_and_then_at_once() -> None:
    loop = Loop()
    assert loop.wait(1.0) == pytest.approx(FIRST_S / TURN_S, abs=1)
    assert [loop.wait(1.0) for _ in range(3)] == [0, 0, 0]


def test_a_loop_that_slept_too_soon_stays_awake_for_longer() -> None:
    loop = Loop()
    assert [loop.wait(SOON_S / 2) for _ in range(3)] == pytest.approx([5, 10, 20], abs=1)


def test_tasks_in_quick_succession_plan_one_callback_a_turn() -> None:
    loop = Loop()
    for _ in range(5):
        loop.polling.begin()
        loop.polling.end()
    loop.polling.begin()
    assert len(loop._planned) == 1


@pytest.mark.parametrize(
    ("backend", "may_poll", "polls"), [("local", True, True), ("local", False, False), ("inline", True, False)]
)
async def test_only_worker_processes_are_polled_for_and_only_where_there_is_cpu_time(
    monkeypatch: pytest.MonkeyPatch, backend: Any, may_poll: bool, polls: bool
) -> None:
    monkeypatch.setattr(engines, "may_poll", lambda: may_poll)
    async with Pool(max_workers=1, backend=backend) as pool:
        engine = pool._runtime.running_engine()
        assert (engine._answers is not None) is polls
        assert [await pool.run(tasks.double, number) for number in range(5)] == [0, 2, 4, 6, 8]
        assert engine._answers is None or not engine._answers.waits
