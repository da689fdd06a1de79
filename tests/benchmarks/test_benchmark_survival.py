"""The experiments really happen: they distinguish pools, and leave nothing behind."""

import pytest

from benchmarks.survival.__main__ import markdown, run_cell
from benchmarks.survival.experiments import Verdict


@pytest.mark.parametrize(
    ("contender", "experiment", "survived"),
    [
        ("lifepool", "after-crash", True),
        ("standard", "after-crash", False),
        ("lifepool", "server-killed", True),
        ("lifepool", "hang-caller", True),
    ],
)
def test_an_experiment_gives_a_verdict(
    contender: str, experiment: str, survived: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.survival.__main__.ORPHAN_GRACE_S", 20.0)
    verdict = run_cell(contender, experiment)
    assert verdict.survived is survived, verdict.detail
    assert verdict.detail


def test_the_table_has_a_word_for_each_cell_and_a_sum() -> None:
    verdicts = {"lifepool": Verdict(True, "fine"), "standard": Verdict(False, "BrokenProcessPool")}
    page = markdown({"date": "today", "python": "Python", "packages": {}}, {"after-crash": verdicts})
    assert "| yes | no |" in page
    assert "| **1** | **0** |" in page
    assert "  - standard: BrokenProcessPool" in page
