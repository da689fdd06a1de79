"""`lifepool bench`: real pools beside each other, ratios within rounds, peers that are missing."""

from __future__ import annotations

import importlib.util
import io
import json
from typing import Any

import pytest
from rich.console import Console

from lifepool.cli.bench import comparison as run
from lifepool.cli.bench.cases import CASES, measure_survival
from lifepool.cli.bench.comparison import BenchReport, bench
from lifepool.cli.bench.render import render
from lifepool.cli.isolation import Outcome, run_isolated
from tests.cli.runner import lifepool

FIGURES = {
    "lifepool": [
        {"noop": 50.0, "in_flight": 30_000.0, "echo": 0.2},
        {"noop": 100.0, "in_flight": 20_000.0, "echo": 0.4},
    ],
    "standard": [
        {"noop": 200.0, "in_flight": 10_000.0, "echo": 2.0},
        {"noop": 300.0, "in_flight": 5_000.0, "echo": 4.0},
    ],
}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace measurements by scripted ones; return what is measured, in order."""
    asked: list[str] = []

    def answer(function: Any, request: dict[str, Any], timeout: float) -> Outcome:
        name = request["contender"]
        if function is measure_survival:
            return Outcome({"survived": name == "lifepool", "detail": "seen"}, None, 0, timed_out=False)
        asked.append(name)
        if name not in FIGURES:
            return Outcome({}, "exit code 1\nwhy", 0, timed_out=False)
        return Outcome(FIGURES[name][asked.count(name) - 1], None, 0, timed_out=False)

    monkeypatch.setattr(run, "run_isolated", answer)
    return asked


def printed(report: BenchReport) -> str:
    out = io.StringIO()
    render(report, Console(file=out, width=80))
    return out.getvalue()


def test_ratios_are_made_within_each_round_and_rounds_take_turns(scripted: list[str]) -> None:
    report = bench(rounds=2, workers=2, pools=["lifepool", "standard"])
    assert scripted == ["lifepool", "standard", "standard", "lifepool"]
    rows = {(table.case.name, row.pool): row for table in report.tables for row in table.rows}
    figure, ratio = rows["noop", "standard"].figure, rows["noop", "standard"].ratio
    assert figure is not None
    assert ratio is not None
    assert (figure.median, figure.low, figure.high) == (250.0, 200.0, 300.0)
    assert (ratio.median, ratio.low, ratio.high) == (3.5, 3.0, 4.0)
    throughput = rows["in_flight", "standard"].ratio
    assert throughput is not None
    assert (throughput.low, throughput.high) == (3.0, 4.0)
    assert rows["noop", "lifepool"].ratio is None
    assert [(each.pool, each.survived) for each in report.survivals] == [("lifepool", 2), ("standard", 0)]
    assert "3.50x (3.00 to 4.00)" in printed(report)


def test_a_pool_that_fails_has_its_reason_in_the_report(scripted: list[str]) -> None:
    report = bench(rounds=1, workers=2, pools=["lifepool", "loky"])
    assert report.tables[0].rows[1].failures == ("exit code 1\nwhy",)
    text = printed(report)
    assert "loky: exit code 1\nwhy" in text
    assert "failed" in text


def test_a_peer_that_is_not_installed_is_left_out_and_named(
    scripted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "deadpool" else found(name))
    report = bench(rounds=1, workers=2, pools=["lifepool", "deadpool"])
    assert scripted == ["lifepool"]
    assert report.missing == ("deadpool-executor",)
    assert "pip install deadpool-executor" in printed(report)


@pytest.mark.parametrize(("contender", "survives"), [("lifepool", True), ("standard", False)])
def test_it_is_seen_whether_a_pool_survives_the_death_of_a_worker(contender: str, survives: bool) -> None:
    outcome = run_isolated(measure_survival, {"contender": contender, "workers": 1, "loop": "asyncio"}, 30.0)
    assert outcome.error is None
    assert outcome.answer["survived"] is survives


def test_the_command_measures_real_pools() -> None:
    done = lifepool("bench", "--quick", "--workers", "1", "--pool", "standard", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["rounds"] == 1
    for table, case in zip(report["tables"], CASES, strict=True):
        assert table["case"]["name"] == case.name
        assert [row["pool"] for row in table["rows"]] == ["lifepool", "standard"]
        assert all(row["figure"]["median"] > 0 and not row["failures"] for row in table["rows"])
    assert [each["survived"] for each in report["survivals"]] == [1, 0]


@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--workers", "0"], ["--pool", "celery"], ["--loop", "trio"]], ids=" ".join
)
def test_wrong_usage_is_refused_before_anything_is_done(arguments: list[str]) -> None:
    done = lifepool("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[-1] in done.stderr or arguments[0] in done.stderr
