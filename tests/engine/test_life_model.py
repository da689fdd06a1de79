"""Start, drain, close and the cancellation of each, in any order: the life of a pool stays one life after the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lifepool import Pool, PoolClosed, TaskHandle, WorkerStartError
from lifepool.hooks import Hook
from tests.engine.scripted import ScriptedBackend
from tests.tasks import double

if TYPE_CHECKING:
    from lifepool.hooks import WatchedPool

ENOUGH_TURNS = 500
"""Turns of the event loop after which what was let go must have come to its end; it takes some twenty."""

HOWS = st.sampled_from(["at once", "held", "fails"])
EXPECTED = (PoolClosed, WorkerStartError, OSError, asyncio.CancelledError)


class Listening(Hook):
    """Hears of starts and ends, which must come in pairs."""

    def __init__(self) -> None:
        self.is_up = False
        self.mistakes: list[str] = []

    def pool_started(self, pool: WatchedPool) -> None:
        if self.is_up:
            self.mistakes.append("started twice")
        self.is_up = True

    def pool_closed(self, pool: WatchedPool) -> None:
        if not self.is_up:
            self.mistakes.append("closed twice, or without a start")
        self.is_up = False
        if pool.state.value != "closed":
            self.mistakes.append(f"closed while {pool.state.value}")


class LifeOfAPool(RuleBasedStateMachine):
    @initialize(workers=st.integers(0, 2))
    def make(self, workers: int) -> None:
        logging.getLogger("lifepool").setLevel(logging.CRITICAL)  # failures of the backend are made on purpose
        self.loop = asyncio.new_event_loop()
        self.backend = ScriptedBackend()
        self.pool = Pool(backend=self.backend, max_workers=max(1, workers), min_workers=workers)
        self.hook = Listening()
        self.pool.add_hook(self.hook)
        self.asked: list[asyncio.Task[None]] = []
        self.handles: list[TaskHandle[Any]] = []
        self.state = "created"
        self.turn(1)

    # -- what people do -------------------------------------------------------------------------------------------

    @rule()
    def start(self) -> None:
        self.asked.append(self.loop.create_task(self.pool.start()))

    @rule(timeout=st.sampled_from([0, 1000]))
    def close(self, timeout: float) -> None:
        self.asked.append(self.loop.create_task(self.pool.aclose(timeout)))

    @rule()
    def drain(self) -> None:
        self.asked.append(self.loop.create_task(self.pool.drain()))

    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        if which < len(self.asked):
            self.asked[which].cancel()

    @rule()
    def cancel_everything(self) -> None:
        """As asyncio.run() does at its end."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()

    @rule()
    def submit(self) -> None:
        async def submit() -> None:
            with contextlib.suppress(PoolClosed, WorkerStartError):
                self.handles.append(self.pool.submit(double, 1))

        self.loop.run_until_complete(submit())

    # -- what the backend does ------------------------------------------------------------------------------------

    @rule(how=HOWS)
    def opens(self, how: str) -> None:
        self.backend.opening = how

    @rule(how=HOWS)
    def starts_workers(self, how: str) -> None:
        self.backend.starting = how

    @rule(how=HOWS)
    def closes(self, how: str) -> None:
        self.backend.closing = how

    @rule(what=st.sampled_from(["open", "close"]))
    def lets_go(self, what: str) -> None:
        self.backend.let_go(what)

    @precondition(lambda self: self.backend.opens)
    @rule()
    def workers_come(self) -> None:
        self.backend.let_workers_come()

    @rule()
    def a_task_ends(self) -> None:
        self.backend.finish_a_task()

    @rule(turns=st.integers(1, 10))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    # -- what holds -----------------------------------------------------------------------------------------------

    @invariant()
    def there_is_one_engine_at_a_time(self) -> None:
        assert not self.backend.overlaps

    @invariant()
    def hooks_hear_of_each_life_once(self) -> None:
        assert self.hook.mistakes == []

    @invariant()
    def the_state_goes_its_way(self) -> None:
        before, self.state = self.state, self.pool.state.value
        assert self.state != "created" or before == "created"
        assert self.pool.statistics().state == self.state

    @invariant()
    def who_asked_gets_an_answer_that_makes_sense(self) -> None:
        for task in self.asked:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                assert isinstance(error, EXPECTED), repr(error)
        self.asked = [task for task in self.asked if not task.done()]

    def teardown(self) -> None:
        """Let everything go on, end it, and see that nobody waits any more and nothing is left."""
        self.backend.opening = self.backend.starting = self.backend.closing = "at once"
        self.backend.let_go("open")
        self.backend.let_workers_come() if self.backend.opens else None
        self.turn(1)
        for _ in range(ENOUGH_TURNS):
            self.backend.let_go("open")
            self.backend.let_go("close")
            if self.pool._runtime.lifecycle.is_alive:
                self.close(0)
            elif not asyncio.all_tasks(self.loop):
                break
            self.turn(1)
        waiting = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        try:
            assert waiting == [], "somebody waits for ever"
            assert all(handle.done() for handle in self.handles), "a task without an outcome"
            assert not self.backend.is_open
            assert not self.backend.opens or self.backend.closes
            assert not self.hook.is_up
            assert self.hook.mistakes == []
            self.who_asked_gets_an_answer_that_makes_sense()
        finally:
            self.turn(1)
            for future in (*self.handles, *self.asked):
                if future.done() and not future.cancelled():
                    future.exception()
            self.loop.close()
            logging.getLogger("lifepool").setLevel(logging.NOTSET)


def test_the_life_of_a_pool() -> None:
    run_state_machine_as_test(LifeOfAPool, settings=settings(max_examples=100, stateful_step_count=30, deadline=None))
