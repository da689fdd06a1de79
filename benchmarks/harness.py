"""Interleaved rounds: each runs every contender once, in an order that rotates."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases.base import Case, Parameters
from benchmarks.environment import ROOT
from benchmarks.processes import kill_group, wait_until_gone

LEFT_OVER_BOUND = 3.0  # seconds after a measurement for its last processes to end by themselves
KILL_BOUND = 5.0  # seconds for killed processes to be gone
MESSAGE_LINES = 12  # of a failed measurement's standard error, kept in the result file


@dataclass(frozen=True)
class Sample:
    """One measurement, as it stands in the result file.

    Attributes:
        metrics: value by metric; empty when the measurement failed.
        left_over: processes that were still there after the contender had been closed.
        error: why there are no metrics.
    """

    case: str
    loop: str
    contender: str
    round: int
    metrics: dict[str, float]
    detail: dict[str, Any]
    left_over: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Plan:
    """One case on one event loop, with the contenders that are installed here."""

    case: Case
    loop: str
    contenders: tuple[str, ...]
    parameters: Parameters
    rounds: int


def run(plan: Plan, announce: Callable[[Sample], None]) -> Iterator[Sample]:
    """Measure every contender of a plan once a round.

    Args:
        plan: what to measure, and how often.
        announce: called with each sample as soon as it is there.
    """
    for index in range(plan.rounds):
        for contender in rotated(plan.contenders, index):
            sample = measure(plan, contender, index)
            announce(sample)
            yield sample


def rotated(contenders: Sequence[str], index: int) -> list[str]:
    """Return the order of a round: each contender comes first, second... about as often."""
    if not contenders:
        return []
    shift = index % len(contenders)
    return [*contenders[shift:], *contenders[:shift]]


def measure(plan: Plan, contender: str, index: int) -> Sample:
    """Run one measurement in a process group of its own; a failure becomes part of the sample."""
    request = {
        "case": plan.case.name,
        "loop": plan.loop,
        "contender": contender,
        "parameters": plan.parameters,
    }
    outcome, error, left_over = run_request(request, plan.case.timeout)
    return Sample(
        plan.case.name,
        plan.loop,
        contender,
        index,
        outcome.get("metrics", {}),
        outcome.get("detail", {}),
        left_over,
        error,
    )


def run_request(request: dict[str, Any], timeout: float) -> tuple[dict[str, Any], str | None, int]:
    """Return the outcome of a request, the error if there is none, and the processes left over.

    Output goes to files, not pipes: a worker that outlives its parent holds a pipe open, and
    whoever reads that waits for it.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        answer, messages = Path(folder, "answer.json"), Path(folder, "messages.txt")
        command = [sys.executable, "-m", "benchmarks.measure", json.dumps(request), str(answer)]
        with messages.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
            left_over = end_measurement(process, timeout)
        if answer.exists() and process.returncode == 0:
            return json.loads(answer.read_text(encoding="utf-8")), None, left_over
        return {}, explain(process.returncode, timeout, messages), left_over


def end_measurement(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Wait for a measurement, end it after ``timeout`` seconds, and count who it left behind."""
    left_over = 0
    try:
        process.wait(timeout)
        left_over = len(wait_until_gone(process.pid, LEFT_OVER_BOUND))
    except subprocess.TimeoutExpired:
        pass
    finally:  # also when the run is interrupted from the keyboard
        kill_group(process.pid, KILL_BOUND)
        process.wait(KILL_BOUND)
    return left_over


def explain(returncode: int, timeout: float, messages: Path) -> str:
    """Return why a measurement has no outcome, with the end of what it printed."""
    if returncode == -signal.SIGKILL:
        reason = f"killed: no answer in {timeout:g} s, or out of memory"
    elif returncode < 0:
        reason = f"ended by {signal.Signals(-returncode).name}"
    else:
        reason = f"exit code {returncode}"
    text = messages.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([reason, *text[-MESSAGE_LINES:]])


def to_json(environment: dict[str, object], plans: Sequence[Plan], samples: Sequence[Sample]) -> dict[str, object]:
    """Return a run as it is written to its result file: what, where, and every sample."""
    return {
        "environment": environment,
        "plans": [
            {
                "case": plan.case.name,
                "title": plan.case.title,
                "loop": plan.loop,
                "rounds": plan.rounds,
                "contenders": plan.contenders,
                "parameters": dict(plan.parameters),
                "metrics": [asdict(metric) for metric in plan.case.metrics],
            }
            for plan in plans
        ],
        "samples": [asdict(sample) for sample in samples],
    }
