from __future__ import annotations

import dataclasses
import json
import math
import pickle

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


@pytest.mark.parametrize(
    ("counts", "q", "bound"),
    [
        ((98, 1, 1, 0), 0.5, 0.001),
        ((98, 1, 1, 0), 0.98, 0.001),
        ((98, 1, 1, 0), 0.99, 0.01),
        ((98, 1, 1, 0), 1.0, 0.1),
        ((0, 0, 0, 1), 0.5, math.inf),
        ((1, 0, 0, 1), 0.9, math.inf),
    ],
)
def test_a_quantile_is_the_upper_bound_of_its_bucket(counts: tuple[int, ...], q: float, bound: float) -> None:
    assert of(*counts).quantile(q) == bound


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0.01, 1), st.floats(0.01, 1))
def test_quantiles_ascend(counts: list[int], one: float, other: float) -> None:
    low, high = (of(*counts).quantile(q) for q in sorted((one, other)))
    assert (low is None) == (high is None) == (sum(counts) == 0)
    assert low is None or high is None or low <= high


@given(st.lists(st.sampled_from([0.0005, 0.005, 0.05, 0.5]), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_not_below_what_was_observed(observed: list[float], q: float) -> None:
    counts = [observed.count(v) for v in (0.0005, 0.005, 0.05, 0.5)]
    exact = sorted(observed)[math.ceil(q * len(observed)) - 1]
    quantile = of(*counts).quantile(q)
    assert quantile is not None
    assert quantile >= exact


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
