"""The benchmark of starts: each contender runs the scripts, and a run gives a table and its samples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.starting.__main__ import CONTENDERS, main, table

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_gives_a_table_and_every_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("loky")
    options = ["--case", "empty", "--case", "forty", "--rounds", "1", "--executors", "2"]
    assert main([*options, "--output", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "starting.json").read_text())
    assert {name: list(found) for name, found in result["seconds"].items()} == {
        "empty": list(CONTENDERS),
        "forty": list(CONTENDERS),
    }
    assert all(len(times) == 1 and times[0] > 0 for found in result["seconds"].values() for times in found.values())
    page = (tmp_path / "starting.md").read_text()
    assert "| forty executors, one after another | " in page
    assert page.strip() == capsys.readouterr().out.strip()


def test_the_table_has_medians_and_ranges() -> None:
    made = table({"empty": {"lifepool": [0.1, 0.3, 0.2], "spawn": [0.4, 0.4, 0.4]}})
    assert made.splitlines()[0] == "| milliseconds: median (range) | lifepool | spawn |"
    assert made.splitlines()[2].endswith("| 200 (100-300) | 400 (400-400) |")
