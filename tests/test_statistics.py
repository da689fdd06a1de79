from __future__ import annotations

import dataclasses
import json
import math
import pickle
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool.statistics import HistogramSnapshot, PoolStatistics

BOUNDS = (0.001, 0.01, 0.1)


def of(*counts: int, seconds: float = 0.0) -> HistogramSnapshot:
    return HistogramSnapshot(BOUNDS, counts, seconds)


def statistics(**changes: object) -> PoolStatistics:
    numbers = dict.fromkeys(
        ("max_workers", "queued", "running", "submitted", "refused", "retried", "completed", "failed", "cancelled",
         "timed_out", "lost"), 0,
    )  # fmt: skip
    fields = {
        **numbers, "state": "running", "workers": {"ready": 2}, "restarts": {"died": 1}, "wait": of(1, 2, 0, 0),
        "run": of(0, 0, 0, 3), "utilisation": 0.5,
    }  # fmt: skip
    return PoolStatistics(**(fields | changes))  # type: ignore[arg-type]


def test_a_histogram_counts_and_averages() -> None:
    assert (of(1, 2, 0, 1, seconds=8.0).count, of(1, 2, 0, 1, seconds=8.0).mean) == (4, 2.0)


def test_nothing_has_no_mean_and_no_quantiles() -> None:
    assert (of(0, 0, 0, 0).count, of(0, 0, 0, 0).mean, of(0, 0, 0, 0).quantile(0.5)) == (0, None, None)


def observing(*seconds: float) -> HistogramSnapshot:
    counts = [0] * (len(BOUNDS) + 1)
    for each in seconds:
        counts[bisect_left(BOUNDS, each)] += 1
    return HistogramSnapshot(BOUNDS, tuple(counts), sum(seconds))


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((10, 0, 0, 0), 0.5, 0.0005),
        ((0, 10, 0, 0), 0.5, 0.0055),
        ((0, 10, 0, 0), 0.0, 0.001),
        ((98, 1, 1, 0), 0.98, 0.001),
        ((98, 1, 1, 0), 1.0, 0.1),
        ((1, 0, 1, 0), 0.5, 0.001),
        ((0, 0, 0, 5), 0.99, 0.1),
    ],
)
def test_a_quantile_is_interpolated_where_the_sum_tells_nothing(
    counts: tuple[int, ...], q: float, expected: float
) -> None:
    assert of(*counts, seconds=-1.0).quantile(q) == pytest.approx(expected)


@pytest.mark.parametrize("seconds", [0.0, 0.0004, 0.001, 0.0051, 0.1, 7.0])
@pytest.mark.parametrize("q", [0.0, 0.5, 0.99, 1.0])
def test_the_quantiles_of_one_observation_are_that_observation(seconds: float, q: float) -> None:
    assert observing(seconds).quantile(q) == pytest.approx(seconds)


@given(st.lists(st.floats(0.0100001, 0.1), min_size=1, max_size=200))
def test_the_median_of_observations_in_one_bucket_is_their_mean(seconds: list[float]) -> None:
    assert observing(*seconds).quantile(0.5) == pytest.approx(sum(seconds) / len(seconds))


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0, 20), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_ascend(counts: list[int], seconds: float, one: float, other: float) -> None:
    low, high = (of(*counts, seconds=seconds).quantile(q) for q in sorted((one, other)))
    assert (low is None) == (high is None) == (sum(counts) == 0)
    assert low is None or high is None or low <= high * (1 + 1e-12)


@given(st.lists(st.floats(0, 3), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_what_was_observed(observed: list[float], q: float) -> None:
    exact = sorted(observed)[math.ceil(q * len(observed)) - 1]
    bucket = bisect_left(BOUNDS, exact)
    quantile = observing(*observed).quantile(q)
    assert quantile is not None
    assert (0.0, *BOUNDS)[bucket] * (1 - 1e-9) <= quantile <= (*BOUNDS, sum(observed))[bucket] * (1 + 1e-9)


def test_a_difference_of_sums_that_is_off_by_its_rounding_does_not_matter() -> None:
    total = 1e6 + 0.1 * 3
    assert of(0, 0, 3, 0, seconds=total - 1e6).quantile(0.5) == pytest.approx(0.1)


def test_statistics_are_frozen_and_compare_by_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics().queued = 3  # type: ignore[misc]
    assert statistics() == statistics()
    assert statistics(queued=1) != statistics()


def test_statistics_can_be_sent_and_written_as_json() -> None:
    assert pickle.loads(pickle.dumps(statistics())) == statistics()
    told = json.loads(json.dumps(statistics().as_dict()))
    assert told["workers"] == {"ready": 2}
    assert told["wait"] == {"bounds": list(BOUNDS), "counts": [1, 2, 0, 0], "sum": 0.0}
    assert told["bytes_sent"] == 0
