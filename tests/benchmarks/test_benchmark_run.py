"""The harness runs cases in rounds and writes a result that can be read again.

The cheapest case stands for all of them here; that each one runs is in every_case.py, for `make bench-smoke`.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.__main__ import parse
from benchmarks.cases import CASES
from benchmarks.environment import describe
from benchmarks.result import Result
from tests.benchmarks.tiny import assert_complete, run

CONTENDERS = ["standard", "lifepool", "limit"]


def test_the_pool_cases_run_in_interleaved_rounds_and_leave_no_process(tmp_path: Path) -> None:
    chosen = [argument for name in CONTENDERS for argument in ("--contender", name)]
    result = run(tmp_path, "latency", *chosen, "--rounds", "2")
    assert_complete(result, rounds=2)
    samples = result["samples"]
    assert isinstance(samples, list)
    assert [sample["contender"] for sample in samples] == [
        "lifepool",
        "standard",
        "limit",
        "standard",
        "limit",
        "lifepool",
    ]


def test_a_result_has_a_ratio_for_every_peer_and_a_table(tmp_path: Path) -> None:
    result = run(tmp_path, "latency", "--contender", "standard", "--contender", "lifepool")
    ratio = Result(result).advantage("latency", "asyncio", ["standard"])
    assert ratio is not None
    assert ratio.median > 0
    page = (tmp_path / "tiny.md").read_text(encoding="utf-8")
    assert "| standard |" in page


def test_a_measurement_that_does_not_end_is_killed_and_reported() -> None:
    case = replace(CASES["latency"], timeout=0.5)
    endless = {"duration": 600.0, "warmup": 0.0, "workers": 1}
    plan = harness.Plan(case, "asyncio", ("standard",), endless, rounds=1)
    sample = harness.measure(plan, "standard", 0)
    assert sample.metrics == {}
    assert sample.error is not None
    assert "no answer in 0.5 s" in sample.error


def test_a_failing_measurement_is_reported_with_its_message() -> None:
    broken = {"workers": 1, "duration": 0.01}
    plan = harness.Plan(CASES["latency"], "asyncio", ("standard",), broken, rounds=1)
    sample = harness.measure(plan, "standard", 0)
    assert sample.error is not None
    assert "KeyError: 'warmup'" in sample.error


@pytest.mark.parametrize("arguments", [["nonsense"], ["--rounds", "0"], ["--set", "duration"]])
def test_a_bad_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(arguments)


def test_the_environment_names_machine_versions_and_date() -> None:
    environment = describe()
    for name in ("cpu", "cpus", "kernel", "python", "packages", "date"):
        assert environment[name]
    json.dumps(environment)


def test_a_result_can_be_added_to_and_says_what_is_older(tmp_path: Path) -> None:
    run(tmp_path, "latency", "--contender", "limit")
    result = run(tmp_path, "loop-lag", "--contender", "limit", "--add")
    plans, samples = result["plans"], result["samples"]
    assert isinstance(plans, list)
    assert isinstance(samples, list)
    assert [(plan["case"], "made" in plan) for plan in plans] == [("latency", True), ("loop-lag", False)]
    assert {sample["case"] for sample in samples} == {"latency", "loop-lag"}


def test_rounds_of_several_runs_are_put_together(tmp_path: Path) -> None:
    chosen = ["latency", "--contender", "limit", "--contender", "standard", "--more"]
    run(tmp_path, *chosen)
    result = run(tmp_path, *chosen, "--rounds", "2")
    assert_complete(result, rounds=3)
    plans, samples = result["plans"], result["samples"]
    assert isinstance(plans, list)
    assert isinstance(samples, list)
    assert len(plans[0]["runs"]) == 2
    order = [(sample["round"], sample["contender"]) for sample in samples]
    assert order == [(0, "standard"), (0, "limit"), (1, "limit"), (1, "standard"), (2, "standard"), (2, "limit")]
    assert "3 rounds in 2 runs, 20" in (tmp_path / "tiny.md").read_text(encoding="utf-8")


def test_rounds_with_other_parameters_are_not_put_together(tmp_path: Path) -> None:
    run(tmp_path, "latency", "--contender", "limit")
    with pytest.raises(ValueError, match="latency had other parameters then; choose another --name"):
        run(tmp_path, "latency", "--contender", "limit", "--more", "--set", "duration=0.03")
