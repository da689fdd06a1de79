"""For how long to poll before sleeping: learned from each wait, and bounded."""

from __future__ import annotations

import pytest

from lifepool._core.halt_polling import FIRST_S, LONGEST_S, SAVED_MOST_S, SOON_S, VAIN_SHARE, HaltPolling

US = 1e-6


class Waiter:
    """Whoever waits, on a clock of its own.

    Attributes:
        polled_s: Seconds that were polled so far.
        vain_s: Those of them after which nothing was there.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.polled_s = self.vain_s = 0.0
        self.polling = HaltPolling(self.now)

    def wait(self, seconds: float, *, lost_s: float = 0.0) -> float:
        """Wait for what comes after so many seconds; return for how long it was to poll.

        Args:
            seconds: After which it is there.
            lost_s: In a poll in vain, the seconds that others had the CPU.
        """
        poll_s = self.polling.begin(self.now)
        if poll_s >= seconds:
            self.polled_s += seconds
        elif poll_s:
            self.polled_s += poll_s
            self.vain_s += poll_s
            self.polling.gave_up(self.now + poll_s + lost_s)
        self.now += seconds
        self.polling.end(self.now)
        return poll_s


@pytest.fixture
def waiter() -> Waiter:
    return Waiter()


def test_what_comes_within_the_poll_changes_nothing(waiter: Waiter) -> None:
    assert [waiter.wait(40 * US) for _ in range(100)] == [FIRST_S] * 100


def test_the_poll_grows_until_it_is_long_enough(waiter: Waiter) -> None:
    assert [waiter.wait(90 * US) for _ in range(4)] == [FIRST_S, 2 * FIRST_S, 2 * FIRST_S, 2 * FIRST_S]


def test_it_grows_to_the_longest(waiter: Waiter) -> None:
    assert [waiter.wait(190 * US) for _ in range(4)] == [FIRST_S, 2 * FIRST_S, LONGEST_S, LONGEST_S]
    assert [waiter.wait(SOON_S * 0.9) for _ in range(4)] == [LONGEST_S] * 4


def test_what_comes_late_ends_polling_at_once(waiter: Waiter) -> None:
    assert [waiter.wait(0.01) for _ in range(100)] == [FIRST_S] + [0.0] * 99


def test_what_comes_soon_again_is_polled_for_again(waiter: Waiter) -> None:
    waiter.wait(0.01)
    assert [waiter.wait(90 * US) for _ in range(4)] == [0.0, FIRST_S, 2 * FIRST_S, 2 * FIRST_S]


def test_a_service_in_steps_gains_within_each(waiter: Waiter) -> None:
    """Five calls one after another, then a pause: the first ones teach, the last ones find it awake."""
    for _ in range(20):
        polls = [waiter.wait(gap) for gap in (0.02, *[90 * US] * 4)]
    assert polls[-1] == 2 * FIRST_S


def test_polls_in_vain_are_bounded_by_a_share_of_the_time(waiter: Waiter) -> None:
    """The worst case: soon and late by turns, so that nothing learned is ever right."""
    for _ in range(20_000):
        for gap in (SOON_S * 0.9, SOON_S * 0.9, SOON_S * 0.9, SOON_S * 1.1):
            waiter.wait(gap)
    assert waiter.vain_s <= VAIN_SHARE * waiter.now + SAVED_MOST_S
    assert waiter.vain_s >= 0.9 * VAIN_SHARE * waiter.now, "the bound was tried"


def test_the_budget_comes_back_with_time(waiter: Waiter) -> None:
    while waiter.wait(SOON_S * 0.9):
        pass
    waiter.now += SAVED_MOST_S / VAIN_SHARE
    assert waiter.wait(SOON_S * 0.9) == LONGEST_S


def test_time_in_which_others_had_the_cpu_is_in_vain_too(waiter: Waiter) -> None:
    waiter.wait(SOON_S * 0.9, lost_s=SAVED_MOST_S)
    assert waiter.wait(40 * US) == 0.0
