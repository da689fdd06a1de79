"""Short versions of `make stress`, in a process of its own: its figures are about that process alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BOUND_S = 150


def run_stress(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.stress", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_under_random_faults_every_task_ends_once_and_rightly_and_nothing_is_left() -> None:
    report = run_stress("--minutes", "0.05", "--fault-every", "0.3")
    assert (report["wrong"], report["hung"], report["leaked"]) == (0, 0, 0)
    assert report["tasks"] > 100, "it was to be a stress"
    assert sum(report["faults_from_outside"].values()) > 1


@pytest.mark.parametrize("in_flight", [1, 64])
def test_a_long_sequence_leaves_memory_and_descriptors_flat(in_flight: int) -> None:
    report = run_stress("million", "--tasks", "20000", "--in-flight", str(in_flight))
    assert report["wrong"] == 0
    assert report["fds"][-1] <= report["fds"][8]
    assert report["server_rss"][-1] - report["server_rss"][8] < 4 * 1024 * 1024
