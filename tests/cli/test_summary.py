"""Percentiles, spreads and ratios of the benchmarks."""

import pytest

from lifepool.cli.summary import Spread, latency_metrics, percentile, ratios_per_round


def test_a_percentile_is_a_value_that_was_measured() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert percentile(ordered, 0.5) == 50
    assert percentile(ordered, 0.99) == 99
    assert percentile(ordered, 1.0) == 100
    assert percentile([7.0], 0.0) == 7


def test_latency_metrics_scale_and_order_the_samples() -> None:
    metrics = latency_metrics([0.003, 0.001, 0.002], 1000)
    assert metrics == {"p50": 2.0, "p90": 3.0, "p99": 3.0, "max": 3.0}


def test_a_spread_is_the_median_with_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=3.0, rounds=3)


def test_ratios_within_a_round_cancel_a_drift_of_the_machine() -> None:
    subject = {0: 10.0, 1: 20.0, 2: 40.0}
    peer = {0: 30.0, 1: 60.0, 2: 120.0}
    assert ratios_per_round(subject, peer, lower_is_better=True) == [3.0, 3.0, 3.0]


def test_more_is_better_for_a_rate() -> None:
    assert ratios_per_round({0: 300.0}, {0: 100.0}, lower_is_better=False) == [3.0]


def test_a_round_that_only_one_of_them_has_makes_no_ratio() -> None:
    assert ratios_per_round({0: 1.0, 1: 1.0}, {1: 2.0}, lower_is_better=True) == pytest.approx([2])
