"""The circuit breaker of a cluster, with a clock that is a number."""

from __future__ import annotations

import pytest

from lifepool._core.breaker import (
    CALM_S,
    FAILURES_TO_OPEN,
    PAUSE_FIRST_S,
    PAUSE_LAST_S,
    TRIAL_S,
    BreakerState,
    CircuitBreaker,
)

NOON = 1000.0


def opened(at: float = NOON) -> CircuitBreaker:
    breaker = CircuitBreaker()
    breaker.reach("it was cut", at)
    return breaker


def half_open() -> tuple[CircuitBreaker, float]:
    breaker = opened()
    breaker.reach(None, NOON)
    now = NOON + PAUSE_FIRST_S
    assert breaker.allows(now)
    assert breaker.state is BreakerState.HALF_OPEN
    return breaker, now


def test_it_is_closed_and_stays_so_while_tasks_are_answered() -> None:
    breaker = CircuitBreaker()
    for task in range(100):
        assert breaker.allows(NOON)
        breaker.sent(task, NOON)
        breaker.answered(NOON)
    assert (breaker.state, breaker.opened, breaker.reason) == (BreakerState.CLOSED, 0, None)


def test_failures_in_a_row_open_it_and_an_answer_in_between_does_not_let_it() -> None:
    breaker = CircuitBreaker()
    for _ in range(3):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.failed("a node is gone", NOON)
        breaker.answered(NOON)
    assert breaker.allows(NOON)
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed("a node is gone", NOON)
    assert breaker.state is BreakerState.OPEN
    assert (breaker.opened, breaker.reason) == (1, "a node is gone")
    assert not breaker.allows(NOON)


def test_it_opens_at_once_when_nothing_goes_through_and_stays_so_for_as_long_as_that_lasts() -> None:
    breaker = opened()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows(NOON + 1e6)
    breaker.reach("it has no nodes", NOON + 1e6)
    assert (breaker.reason, breaker.opened) == ("it has no nodes", 1)
    breaker.reach(None, NOON + 1e6)
    assert breaker.allows(NOON + 1e6)


def test_a_pause_has_to_pass_even_if_calls_go_through_again_at_once() -> None:
    breaker = opened()
    breaker.reach(None, NOON)
    assert not breaker.allows(NOON + PAUSE_FIRST_S - 0.01)
    assert breaker.allows(NOON + PAUSE_FIRST_S)


def test_half_open_lets_one_task_through_at_a_time() -> None:
    breaker, now = half_open()
    breaker.sent(1, now)
    assert not breaker.allows(now)
    breaker.ended(2)  # an old one
    assert not breaker.allows(now)
    breaker.ended(1)  # it was cancelled: nothing is known yet
    assert breaker.allows(now)


def test_a_trial_that_is_answered_closes_it() -> None:
    breaker, now = half_open()
    breaker.sent(1, now)
    breaker.answered(now)
    assert breaker.state is BreakerState.CLOSED


def test_a_long_trial_passes_too() -> None:
    breaker, now = half_open()
    breaker.sent(1, now)
    assert not breaker.allows(now + TRIAL_S - 0.01)
    assert breaker.allows(now + TRIAL_S)
    assert breaker.state is BreakerState.CLOSED


def test_a_trial_that_fails_opens_it_again_for_longer() -> None:
    breaker, now = half_open()
    breaker.sent(1, now)
    breaker.failed("its node is gone", now)
    assert (breaker.state, breaker.opened) == (BreakerState.OPEN, 2)
    assert not breaker.allows(now + 2 * PAUSE_FIRST_S - 0.01)
    assert breaker.allows(now + 2 * PAUSE_FIRST_S)


def test_an_answer_to_an_old_task_does_not_close_it_while_it_is_open() -> None:
    breaker = opened()
    breaker.answered(NOON)
    breaker.failed("late", NOON)
    assert (breaker.state, breaker.opened) == (BreakerState.OPEN, 1)


@pytest.mark.parametrize("calm", [True, False])
def test_pauses_double_up_to_a_bound_and_begin_anew_after_calm(calm: bool) -> None:
    breaker, now = CircuitBreaker(), NOON
    pauses = []
    for _ in range(8):
        breaker.reach("cut", now)
        breaker.reach(None, now)
        pause = next(p for p in (0.5, 1, 2, 4, 8, 16, 30, 60) if breaker.allows(now + p))
        pauses.append(pause)
        now += pause
        breaker.sent(1, now)
        breaker.answered(now)
        now += CALM_S if calm else 0.0
    assert pauses == ([PAUSE_FIRST_S] * 8 if calm else [1, 2, 4, 8, 16, PAUSE_LAST_S, PAUSE_LAST_S, PAUSE_LAST_S])
