"""The pages that show results are in step with the result file, and what they show is there."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, plots
from benchmarks.result import Result
from tests.benchmarks.test_benchmark_goals import result_of

RESULT = Result.load("bench")


@pytest.mark.parametrize("path", page.pages(RESULT), ids=lambda path: path.name)
def test_a_page_shows_what_was_measured(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == page.pages(RESULT)[path], "run: python -m benchmarks page"


@pytest.mark.parametrize("path", page.pages(RESULT), ids=lambda path: path.name)
def test_every_plot_of_a_page_was_made_from_the_result(path: Path) -> None:
    plots_shown = re.findall(r"!\[[^\]]+\]\(([^)]+\.svg)\)", path.read_text(encoding="utf-8"))
    assert plots_shown
    for plot in plots_shown:
        assert f"result {plots.fingerprint(RESULT)}" in (path.parent / plot).read_text(encoding="utf-8")


def draw(data: dict[str, Any], folder: Path) -> None:
    """Draw in a process of its own: matplotlib keeps its fonts open."""
    source = folder / "data.json"
    source.write_text(json.dumps(data), encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from benchmarks import plots; from benchmarks.result import Result;"
        "folder = Path(sys.argv[1]); plots.draw_all(Result.load('data', folder), folder)"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, timeout=50)


def test_a_plot_is_drawn_as_paths_and_on_no_ground_and_always_the_same(tmp_path: Path) -> None:
    data = result_of("latency", {"lifepool": [50.0, 60.0], "standard": [200.0, 210.0], "limit": [20.0, 21.0]})
    data["environment"]["date"] = "2026-01-01"
    (tmp_path / "old.svg").touch()
    draw(data, tmp_path)
    (drawn,) = tmp_path.glob("*.svg")
    text = drawn.read_text(encoding="utf-8")
    assert drawn.name == "no-ops.svg"
    assert "<text" not in text
    assert "fill: #ffffff" not in text
    draw(data, tmp_path)
    assert drawn.read_text(encoding="utf-8") == text


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="results:start"):
        page.with_block("no markers", "results", "block")
