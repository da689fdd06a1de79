"""Every case of the benchmarks, and every server of the service case, runs and gives a complete result.

That takes half a minute, and the package can hardly break it: `make bench-smoke` runs this file, which pytest does not
collect by itself. What a run does with cases is in test_benchmark_run.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.cases import CASES
from tests.benchmarks.tiny import assert_complete, run

if TYPE_CHECKING:
    from pathlib import Path


def test_a_smoke_run_of_the_default_set_measures_every_case_of_it(tmp_path: Path) -> None:
    slow = ["--set", "kills=1", "--set", "repeats=1", "--set", "idle_duration=0.1", "--set", "rate=10"]
    result = run(tmp_path, "--contender", "lifepool", *slow)
    plans = result["plans"]
    assert isinstance(plans, list)
    assert [plan["case"] for plan in plans] == [case.name for case in CASES.values() if case.default]
    assert_complete(result, rounds=1)


def test_the_cases_beyond_the_default_set_run_too(tmp_path: Path) -> None:
    names = ["out-64KiB-str", "in-1KiB-numpy", "queue-1e1", "workers-4", "callers-1e1", "full-queue-1e4", "start-64"]
    assert_complete(run(tmp_path, *names, "--contender", "lifepool"), rounds=1)


@pytest.mark.parametrize("contender", ["standard", "multiprocessing", "mpire"])
def test_the_peers_map_too(tmp_path: Path, contender: str) -> None:
    assert_complete(run(tmp_path, "map-1e6", "--contender", contender, "--set", "items=100"), rounds=1)


@pytest.mark.parametrize("variant", CASES["service"].contenders)
def test_the_service_case_gets_right_answers_from_each_server(tmp_path: Path, variant: str) -> None:
    settings = ["--set", "duration=0.3", "--set", "rate=10", "--set", "idle_duration=0.2"]
    result = run(tmp_path, "service", "--contender", variant, *settings)
    assert_complete(result, rounds=1)
    samples = result["samples"]
    assert isinstance(samples, list)
    assert samples[0]["detail"]["errors"] == {}
