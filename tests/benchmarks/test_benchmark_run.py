"""The harness runs every case with tiny parameters and writes a result that can be read again."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.__main__ import main, parse
from benchmarks.cases import CASES
from benchmarks.environment import describe

POOL_CASES = ["latency", "echo-1MiB"]
CONTENDERS = ["standard", "lifepool", "limit"]
TINY = ["--quick", "--workers", "2", "--set", "duration=0.02", "--set", "warmup=0.01"]


def run(folder: Path, *arguments: str) -> dict[str, object]:
    assert main([*TINY, *arguments, "--output", str(folder), "--name", "tiny"]) == 0
    result = json.loads((folder / "tiny.json").read_text(encoding="utf-8"))
    assert isinstance(result, dict)
    return result


def assert_complete(result: dict[str, object], rounds: int) -> None:
    plans, samples = result["plans"], result["samples"]
    assert isinstance(plans, list)
    assert isinstance(samples, list)
    for plan in plans:
        for contender in plan["contenders"]:
            own = [s for s in samples if (s["case"], s["contender"]) == (plan["case"], contender)]
            assert [sample["round"] for sample in own] == list(range(rounds))
            for sample in own:
                assert sample["error"] is None
                assert sample["left_over"] == 0
                assert set(sample["metrics"]) == {metric["name"] for metric in plan["metrics"]}
                assert all(math.isfinite(value) for value in sample["metrics"].values())


def test_the_pool_cases_run_in_interleaved_rounds_and_leave_no_process(tmp_path: Path) -> None:
    chosen = [argument for name in CONTENDERS for argument in ("--contender", name)]
    result = run(tmp_path, *POOL_CASES, *chosen, "--rounds", "2")
    assert_complete(result, rounds=2)
    samples = result["samples"]
    assert isinstance(samples, list)
    latency = [sample["contender"] for sample in samples if sample["case"] == "latency"]
    assert latency == ["lifepool", "standard", "limit", "standard", "limit", "lifepool"]


def test_a_smoke_run_of_the_default_set_measures_every_case_of_it(tmp_path: Path) -> None:
    slow = ["--set", "kills=1", "--set", "repeats=1", "--set", "idle_duration=0.1", "--set", "rate=10"]
    result = run(tmp_path, "--contender", "lifepool", *slow)
    plans = result["plans"]
    assert isinstance(plans, list)
    assert [plan["case"] for plan in plans] == [case.name for case in CASES.values() if case.default]
    assert_complete(result, rounds=1)


def test_the_cases_beyond_the_default_set_run_too(tmp_path: Path) -> None:
    names = ["out-64KiB-str", "in-1KiB-numpy", "queue-1e1", "workers-4"]
    assert_complete(run(tmp_path, *names, "--contender", "lifepool"), rounds=1)


@pytest.mark.parametrize("contender", ["standard", "multiprocessing", "mpire"])
def test_the_peers_map_too(tmp_path: Path, contender: str) -> None:
    assert_complete(run(tmp_path, "map-1e6", "--contender", contender, "--set", "items=100"), rounds=1)


def test_a_result_has_a_ratio_for_every_peer_and_a_table(tmp_path: Path) -> None:
    result = run(tmp_path, "latency", "--contender", "standard", "--contender", "lifepool")
    summary = result["summary"]
    assert isinstance(summary, list)
    ratios = {row["contender"]: row["lifepool is better by"] for row in summary[0]["rows"]}
    assert ratios["lifepool"] is None
    assert ratios["standard"]["median"] > 0
    page = (tmp_path / "tiny.md").read_text(encoding="utf-8")
    assert "| standard |" in page


@pytest.mark.parametrize("variant", CASES["service"].contenders)
def test_the_service_case_gets_right_answers_from_each_server(tmp_path: Path, variant: str) -> None:
    settings = ["--set", "duration=0.3", "--set", "rate=10", "--set", "idle_duration=0.2"]
    result = run(tmp_path, "service", "--contender", variant, *settings)
    assert_complete(result, rounds=1)
    samples = result["samples"]
    assert isinstance(samples, list)
    assert samples[0]["detail"]["errors"] == {}


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
