"""Load shedding on a fake clock: a model of a pool and its loop, and the decisions about the requests that come."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import pytest

from lifepool._engine.queries import QueueLoad
from lifepool.integrations.shedding.controller import (
    BURST,
    CALM_S,
    DROP,
    LEAST_IN_TURN,
    REFUSED_LOOP,
    REFUSED_POOL,
    RETRY_MOST_S,
    STANDING_S,
    UNKNOWN_WAITING,
    WAITED_COUNTS,
    Controller,
    pool_wait,
)

TARGET, RUN, BEAT = 0.1, 0.005, 0.01


@dataclass
class Model:
    """A pool of two workers whose tasks take ``run`` seconds, and requests at a steady rate."""

    run: float = RUN
    controller: Controller = field(default_factory=lambda: Controller(TARGET))
    now: float = 0.0
    waiting: float = 0.0  # tasks
    admitted: list[float] = field(default_factory=list)  # what each would wait
    refused: list[float] = field(default_factory=list)  # when
    states: list[bool] = field(default_factory=list)

    @property
    def capacity(self) -> float:
        return 2 / self.run

    def load(self) -> QueueLoad:
        wait = self.waiting * self.run / 2
        return QueueLoad(min(wait, TARGET), wait, self.run, math.ceil(self.waiting), 2, 1000)

    def play(self, factor: float, seconds: float, lag: float = 0.0) -> None:
        """Let requests come at so many times the capacity."""
        owed, end = 0.0, self.now + seconds
        while self.now < end:
            self.now += BEAT
            self.waiting = max(0.0, self.waiting - self.capacity * BEAT)
            self.controller.observe(self.now, pool_wait(self.load(), 0), lag, self.run)
            self.states.append(self.controller.overloaded)
            owed += factor * self.capacity * BEAT
            while owed >= 1:
                owed -= 1
                self.come()

    def come(self, overdue: float = 0.0) -> str | None:
        wait = pool_wait(self.load(), 0)
        refusal = self.controller.refusal(self.now, wait, overdue, self.run)
        if refusal is None:
            self.admitted.append(wait)
            self.waiting += 1
        else:
            self.refused.append(self.now)
        return refusal


@pytest.mark.parametrize("factor", [1.2, 2, 5, 10, 100])
def test_an_overload_is_held_at_the_target_and_the_workers_never_run_dry(factor: float) -> None:
    model = Model()
    model.play(factor, 3.0)
    model.admitted.clear()
    model.play(factor, 5.0)
    assert max(model.admitted) <= TARGET + model.run
    assert len(model.admitted) == pytest.approx(5.0 * model.capacity, rel=0.02), "all that can be done is done"


def test_below_the_capacity_nobody_is_refused() -> None:
    model = Model()
    model.play(0.95, 10.0)
    assert not model.refused
    assert not any(model.states)


def test_a_burst_that_drains_by_itself_is_admitted_as_a_whole() -> None:
    model = Model()
    for _ in range(int(BURST * TARGET * model.capacity) + 1):
        model.come()
    assert not model.refused
    assert model.come() == REFUSED_POOL, "but not without end"
    model.play(0.5, 2.0)
    assert len(model.refused) == 1


def test_overload_begins_once_and_ends_once() -> None:
    model = Model()
    model.play(0.5, 2.0)
    model.play(3, 10.0)
    model.play(0.5, 5.0)
    changes = sum(a != b for a, b in zip(model.states, model.states[1:], strict=False))
    assert changes == 2, "it does not swing between the two"
    assert not model.states[-1]


def test_after_an_overload_all_are_admitted_again_within_a_second_or_so() -> None:
    model = Model()
    model.play(10, 5.0)
    over = model.now
    model.play(0.9, 5.0)
    late = [when - over for when in model.refused if when > over]
    assert not late or max(late) < CALM_S + STANDING_S


def test_one_block_of_the_loop_refuses_nobody() -> None:
    model = Model()
    model.play(0.5, 1.0)
    model.controller.observe(model.now, 0.0, 60.0, RUN)
    for _ in range(10):
        assert model.come(overdue=60.0) is None
    assert not model.controller.overloaded


def test_a_loop_that_is_late_for_long_is_overload_and_each_turn_admits_what_fits_into_it() -> None:
    model = Model()
    model.play(0.3, 2 * STANDING_S, lag=TARGET)
    assert model.controller.overloaded
    for _ in range(3 * LEAST_IN_TURN):
        assert model.come(overdue=0.0) is None
    assert model.come(overdue=TARGET / 2) == REFUSED_LOOP


def test_however_late_the_loop_is_each_turn_admits_some() -> None:
    model = Model()
    model.play(0.3, 2 * STANDING_S, lag=TARGET)
    for _ in range(3):
        model.controller.observe(model.now, 0.0, TARGET, RUN)
        refusals = [model.come(overdue=TARGET) for _ in range(LEAST_IN_TURN + 1)]
        assert refusals == [None] * LEAST_IN_TURN + [REFUSED_LOOP]


def test_while_turns_are_long_the_workers_have_enough_to_do_until_the_next_one() -> None:
    model = Model()
    model.play(0.3, 3 * STANDING_S, lag=0.15)
    wait = QueueLoad(0.2, 0.2, RUN, 80, 2, 1000)
    assert model.controller.refusal(model.now, pool_wait(wait, 0), 0.0, RUN) is None
    for _ in range(100):  # turns are short again
        model.controller.observe(model.now, 0.2, 0.0, RUN)
    assert model.controller.overloaded
    assert model.controller.refusal(model.now, pool_wait(wait, 0), 0.0, RUN) == REFUSED_POOL


def test_one_slow_request_refuses_nobody() -> None:
    model = Model()
    model.play(0.5, 1.0)
    slow = QueueLoad(0.2, 0.0, RUN, 1, 2, 1000)  # both workers are busy with slow ones; one waits for them
    for step in range(100):
        assert model.controller.refusal(model.now + step * 0.001, pool_wait(slow, 0), 0.0, RUN) is None


def test_while_no_run_time_is_known_so_many_may_wait() -> None:
    few = QueueLoad(0.0, 0.0, 0.0, 2 * UNKNOWN_WAITING - 1, 2, 0)
    assert pool_wait(few, 0) == 0.0
    assert pool_wait(few, 1) == math.inf, "requests that still arrive count"
    slow_first_run = QueueLoad(0.0, 30.0, 6.0, 10, 2, 1)
    assert pool_wait(slow_first_run, 0) == 0.0, "the first run says nothing"


def test_requests_whose_bodies_still_come_count_as_waiting() -> None:
    idle = QueueLoad(0.0, 0.0, RUN, 0, 2, 1000)
    assert pool_wait(idle, 40) == pytest.approx(40 * RUN / 2)


def test_a_prediction_that_was_wrong_is_corrected_by_what_waits() -> None:
    assert pool_wait(QueueLoad(3.0, 0.01, RUN, 2, 2, 1000), 0) == 3.0 * WAITED_COUNTS


def test_tasks_that_are_a_little_slower_than_predicted_are_admitted_as_steadily_as_they_are_done() -> None:
    controller, entered = Controller(TARGET), deque[float]()
    now, done, admitted = 0.0, 0.0, list[int]()
    for _ in range(2000):
        now, done = now + BEAT, done + BEAT * 2 / (1.2 * RUN)
        while done >= 1 and entered:
            entered.popleft()
            done -= 1
        count = 0
        while True:
            next_wait = now - entered[0] if entered else 0.0
            load = QueueLoad(next_wait, len(entered) * RUN / 2, RUN, len(entered), 2, 1000)
            if controller.refusal(now, pool_wait(load, 0), 0.0, RUN) is not None:
                break
            entered.append(now)
            count += 1
        controller.observe(now, pool_wait(load, 0), 0.0, RUN)
        admitted.append(count)
    steadily = BEAT * 2 / (1.2 * RUN)
    assert max(admitted[500:]) <= 2 * steadily + 1, "not all at once, when the queue is empty"
    assert sum(admitted[500:]) == pytest.approx(1500 * steadily, rel=0.01)


def test_tasks_that_take_longer_than_the_target_may_wait_for_one_another() -> None:
    model = Model(run=2.0)
    for _ in range(3):
        assert model.come() is None
    model.play(3, 60.0)
    model.admitted.clear()
    model.play(3, 60.0)
    assert max(model.admitted) <= 2 * model.run
    assert len(model.admitted) == pytest.approx(60 * model.capacity, abs=2)
    assert model.controller.drop_after(model.run) == DROP * model.run


def test_the_advice_grows_with_the_overload_and_differs_from_client_to_client() -> None:
    model = Model()
    model.play(1.5, 5.0)
    mild = {model.controller.retry_after(TARGET, jitter / 10) for jitter in range(10)}
    model.play(20, 5.0)
    severe = {model.controller.retry_after(TARGET, jitter / 10) for jitter in range(10)}
    assert min(mild) == min(severe) == 1
    assert 2 <= max(mild) <= 3
    assert 10 <= max(severe) <= RETRY_MOST_S
    assert len(severe) > 5
    assert model.controller.retry_after(math.inf, 0.0) == 1


def test_a_wait_to_begin_that_stands_above_the_target_is_overload_of_the_loop() -> None:
    controller = Controller(TARGET)
    assert controller.refusal(0.0, 0.0, 0.0, RUN, begin=BURST * TARGET) is None, "it may be a burst"
    assert controller.refusal(0.0, 0.0, 0.0, RUN, begin=BURST * TARGET + 0.01) == REFUSED_LOOP
    assert controller.refusal(0.0, 1.0, 0.0, RUN, begin=0.9) == REFUSED_POOL, "the longer wait is why"
    for now in (2.0, 2.0 + STANDING_S):
        controller.observe(now, 0.0, 0.0, RUN, begin=TARGET + 0.01)
    assert controller.overloaded
    assert controller.refusal(4.0, 0.0, 0.0, RUN, begin=TARGET) is None
    assert controller.refusal(4.0, 0.0, 0.0, RUN, begin=TARGET + 0.01) == REFUSED_LOOP
