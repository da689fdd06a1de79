"""Runs of the benchmarks with parameters so small that they measure nothing."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from benchmarks.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

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
