"""The model of a cluster: it says what was measured, its two ways agree, and the page shows its figures."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks.scale import page
from benchmarks.scale.demands import Demand, Demands, read_runs
from benchmarks.scale.fit import errors, fit
from benchmarks.scale.formulas import dollars_per_million, latency, limits
from benchmarks.scale.simulation import Setup, simulate

#: What the page promises.
RATE_WITHIN, MEDIAN_WITHIN = 0.15, 0.25


@pytest.fixture(scope="module")
def demands() -> Demands:
    return fit(read_runs())


def test_the_model_says_what_was_measured(demands: Demands) -> None:
    compared = errors(read_runs(), demands)
    assert {each["nodes"] for each in compared} == {1, 2, 4, 8}
    for each in compared:
        assert each["model_rate"] == pytest.approx(each["rate"], rel=RATE_WITHIN), each
        assert each["model_p50"] == pytest.approx(each["p50"], rel=MEDIAN_WITHIN), each
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.fit_table(compared) in text, "python -m benchmarks.scale page"
    assert page.demands_table(demands) in text
    assert page.payload_table(demands) in text
    assert f"{RATE_WITHIN:.0%} for the rates and {MEDIAN_WITHIN:.0%} for the medians".replace("%", " %") in text


@pytest.mark.parametrize(
    ("nodes", "web", "task_s", "narrowest"),
    [(4, 1, 0.1, "slots"), (100, 8, 0.1, "slots"), (1000, 8, 0.1, "Redis"), (200, 1, 1.0, "slots")],
)
def test_formula_and_simulation_agree_on_the_limit(
    demands: Demands, nodes: int, web: int, task_s: float, narrowest: str
) -> None:
    setup = Setup(nodes=nodes, web=web, task_s=task_s)
    bound = limits(demands, setup)
    assert bound.narrowest == narrowest
    busy = dataclasses.replace(setup, window=setup.most_under_way * 5 // 4)
    assert simulate(demands, busy, calls=4000).rate == pytest.approx(bound.rate, rel=0.12)


def test_formula_and_simulation_agree_on_latency(demands: Demands) -> None:
    for load in (0.3, 0.6):
        setup = Setup(nodes=10, task_s=0.1)
        setup = dataclasses.replace(setup, rate=load * limits(demands, setup).rate, ahead=9.0)
        seen = simulate(demands, setup, calls=4000)
        assert sum(seen.latencies) / len(seen.latencies) == pytest.approx(latency(demands, setup), rel=0.1)


def test_more_than_there_can_be_never_ends(demands: Demands) -> None:
    assert latency(demands, Setup(nodes=1, task_s=1.0, rate=100)) == math.inf


def test_what_comes_together_is_done_together_and_costs_less() -> None:
    plain = {"worker_s": 0.0, "worker_mib_s": 0.0, "wait_s": 0.0, "turnover_s": 0.0, "beat_s": 0.0, "idle_s": 0.0}
    free = Demand(0.0, 0.0)
    shared = Demands(web=Demand(0.001, 0.0001), redis=free, agent=free, **plain)
    alone = simulate(shared, Setup(nodes=10, task_s=0.1, window=1), calls=50)
    busy = simulate(shared, Setup(nodes=10, task_s=0.01, window=60), calls=2000)
    assert alone.cpu["web"] == pytest.approx(2 * 0.001 + 0.0001, rel=0.05)
    assert busy.cpu["web"] < alone.cpu["web"] / 2


def test_no_slot_runs_two_calls_at_a_time() -> None:
    none = Demand(0.0, 0.0)
    nothing = {"worker_s": 0.0, "worker_mib_s": 0.0, "wait_s": 0.0, "turnover_s": 0.0, "beat_s": 0.0, "idle_s": 0.0}
    free = Demands(web=none, redis=none, agent=none, **nothing)
    seen = simulate(free, Setup(nodes=3, workers=2, task_s=0.1, window=30), calls=600)
    assert seen.rate == pytest.approx(60, rel=0.02)


def test_a_million_calls_cost_what_the_machines_do() -> None:
    setup = Setup(nodes=10, web=2)
    assert dollars_per_million(setup, 100.0) == pytest.approx((10 * 0.08 + 2 * 0.04 + 0.08) / 3600 / 100 * 1e6)
