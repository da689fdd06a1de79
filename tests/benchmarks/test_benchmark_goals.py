"""The goals beside what was measured: ratios within a round, the limit, figures of lifepool alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import CASES
from benchmarks.goals import GOALS, lines_of, main
from benchmarks.result import Result


def result_of(case: str, values: dict[str, list[float]], loop: str = "asyncio") -> dict[str, Any]:
    """Return a result with one case: the leading metric's values by contender, one for each round."""
    metric = CASES[case].metrics[0]
    return {
        "environment": {},
        "plans": [
            {
                "case": case,
                "loop": loop,
                "contenders": list(values),
                "metrics": [{"name": metric.name, "unit": metric.unit, "better": metric.better}],
            }
        ],
        "samples": [
            {"case": case, "loop": loop, "contender": name, "round": index, "metrics": {metric.name: v}, "error": None}
            for name, own in values.items()
            for index, v in enumerate(own)
        ],
    }


def verdicts(data: dict[str, Any]) -> dict[str, tuple[str, float]]:
    lines = lines_of(Result(data))
    return {line.goal: (line.verdict, line.measured.median) for line in lines if line.measured is not None}


def test_a_ratio_is_made_within_each_round_and_its_median_decides() -> None:
    values = {"lifepool": [10.0, 20.0, 10.0], "standard": [50.0, 60.0, 40.0], "anyio": [9.0, 30.0, 20.0]}
    found = verdicts(result_of("latency", values))
    assert found["no-op, 1 in flight (asyncio): times better than the standard pool"] == ("met", 4.0)
    # The best peer of the rounds: anyio 0.9, anyio 1.5, anyio 2.
    assert found["no-op, 1 in flight (asyncio): times better than the best peer"] == ("met", 1.5)
    assert len(found) == 2


def test_more_is_better_where_the_case_says_so() -> None:
    found = verdicts(result_of("throughput-64", {"lifepool": [400.0], "standard": [100.0]}))
    assert found == {"no-ops, 64 in flight (asyncio): times better than the standard pool": ("not met", 4.0)}


def test_the_limit_is_no_peer_and_is_looked_at_the_other_way_round() -> None:
    found = verdicts(result_of("echo-1MiB", {"lifepool": [4.0], "standard": [60.0], "limit": [2.0]}))
    assert found["1 MiB echoed (asyncio): times as long as the memcpy limit"] == ("met", 2.0)
    assert found["1 MiB echoed (asyncio): times better than the standard pool"] == ("met", 15.0)


@pytest.mark.parametrize(("milliseconds", "verdict"), [(19.0, "met"), (21.0, "not met")])
def test_a_figure_of_lifepool_alone_has_a_bound(milliseconds: float, verdict: str) -> None:
    assert list(verdicts(result_of("restart", {"lifepool": [milliseconds]})).values()) == [(verdict, milliseconds)]


def test_what_was_not_measured_is_said_to_be_so(tmp_path: Path) -> None:
    data = result_of("restart", {"lifepool": [10.0]})
    (tmp_path / "some.json").write_text(json.dumps(data), encoding="utf-8")
    assert main(["--name", "some", "--output", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "some-goals.json").read_text(encoding="utf-8"))
    assert [line["verdict"] for line in written].count("not measured") == len(GOALS) - 1
    assert "| all workers there again after a kill | ≤ 20.0 ms | 10.0 ms | met |" in (
        tmp_path / "some-goals.md"
    ).read_text(encoding="utf-8")
