"""Whom the kernel kills first when memory runs out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lifepool import Pool
from lifepool.backends.local.worker import limits
from lifepool.backends.local.worker.limits import OOM_SCORE_ABOVE_SERVER

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the score is Linux's")


def score() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


def score_of_a_child() -> int:
    return int(subprocess.run(["cat", "/proc/self/oom_score_adj"], capture_output=True, check=True).stdout)


async def test_the_kernel_takes_a_worker_or_its_child_before_the_server() -> None:
    ours = score()
    async with Pool(max_workers=1) as pool:
        assert await pool.run(score) == min(1000, ours + OOM_SCORE_ABOVE_SERVER)
        assert await pool.run(score_of_a_child) == min(1000, ours + OOM_SCORE_ABOVE_SERVER)
    assert score() == ours


@pytest.mark.parametrize(("before", "after"), [(0, 300), (-500, -200), (900, 1000), (1000, 1000), (-1000, -1000)])
def test_a_score_is_raised_and_what_is_forbidden_stays(
    before: int, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "oom_score_adj"
    file.write_text(f"{before}\n")
    monkeypatch.setattr(limits, "_OOM_SCORE", str(file))
    limits.die_before_server()
    assert int(file.read_text()) == after


def test_a_system_without_the_score_or_that_refuses_it_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_OOM_SCORE", str(tmp_path / "missing"))
    limits.die_before_server()
    odd = tmp_path / "odd"
    odd.write_text("nonsense")
    monkeypatch.setattr(limits, "_OOM_SCORE", str(odd))
    limits.die_before_server()
    assert odd.read_text() == "nonsense"
