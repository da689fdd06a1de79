from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool._core.counters import BUCKETS_S, Histogram, RunTimes, Tally


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (50e-6, 0), (51e-6, 1), (1.0, 13), (1.01, 14), (500.0, 21)])
def test_an_observation_is_counted_under_the_first_bound_that_is_not_below_it(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert [index for index, count in enumerate(histogram.counts) if count] == [bucket]


def test_what_is_above_all_bounds_is_counted_last() -> None:
    histogram = Histogram()
    histogram.observe(1e6)
    assert histogram.counts[len(BUCKETS_S)] == 1
    assert len(histogram.counts) == len(BUCKETS_S) + 1


@given(st.lists(st.floats(0, 1000)))
def test_nothing_that_is_observed_is_forgotten(observed: list[float]) -> None:
    histogram = Histogram()
    for seconds in observed:
        histogram.observe(seconds)
    assert sum(histogram.counts) == len(observed)
    assert histogram.sum_s == pytest.approx(sum(observed))


def test_bounds_ascend() -> None:
    assert sorted(set(BUCKETS_S)) == list(BUCKETS_S)


def test_nothing_is_known_of_a_function_that_never_ran() -> None:
    times = RunTimes()
    assert times.estimate("f") is None
    assert times.overall_s is None


def test_an_estimate_starts_with_the_first_run_and_follows_the_later_ones() -> None:
    times = RunTimes()
    times.learn("f", 1.0)
    assert times.estimate("f") == 1.0
    times.learn("f", 2.0)
    assert times.estimate("f") == pytest.approx(1.2)
    for _ in range(30):
        times.learn("f", 2.0)
    assert times.estimate("f") == pytest.approx(2.0, rel=0.01)


def test_functions_are_learned_apart_and_together() -> None:
    times = RunTimes()
    times.learn("f", 1.0)
    times.learn("g", 3.0)
    assert (times.estimate("f"), times.estimate("g")) == (1.0, 3.0)
    assert times.overall_s == pytest.approx(2.0)


def test_the_mean_is_that_of_all_runs_and_later_of_some_fifty() -> None:
    times = RunTimes()
    assert times.mean("f") is None
    for seconds in [1.0, 3.0] * 10:
        times.learn("f", seconds)
    assert times.mean("f") == pytest.approx(2.0)
    for _ in range(300):
        times.learn("f", 5.0)
    assert times.mean("f") == pytest.approx(5.0, rel=0.01)


def test_a_program_that_makes_functions_on_the_fly_does_not_fill_the_memory() -> None:
    times = RunTimes()
    for number in range(10 * RunTimes.MAX_NAMES):
        times.learn(f"lambda{number}", 1.0)
        assert len(times._by_name) <= RunTimes.MAX_NAMES
    assert times.estimate(f"lambda{10 * RunTimes.MAX_NAMES - 1}") == 1.0
    assert times.overall_s == pytest.approx(1.0)


def test_a_tally_starts_at_nothing() -> None:
    tally = Tally()
    assert (tally.submitted, tally.refused, tally.retried, tally.worker_s) == (0, 0, 0, 0.0)
    assert not tally.outcomes
    assert not tally.restarts
