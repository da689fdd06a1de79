"""System calls of the server's event loop thread, a task: counted by strace, which makes them slow but misses none.

``python -m benchmarks.parent.system_calls LOOP IN_FLIGHT WORKERS TASKS`` is what runs under strace. It is run twice,
and the difference of the two counts is what the additional tasks cost: starting and stopping cancel out.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.environment import ROOT
from benchmarks.tasks import noop
from lifepool import Pool
from lifepool.cli.bench.cases import loop_factory

if TYPE_CHECKING:
    from benchmarks.parent.server import Run

FEW, MANY = 1_000, 5_000
BOUND_S = 60.0
#: Below so many a task it is what happens now and then: timers, memory.
LEAST = 0.02

_LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


def per_task(run: Run) -> dict[str, float]:
    """Return system calls a task by name, the most frequent first; empty where strace is missing or may not trace."""
    if shutil.which("strace") is None:
        return {}
    few, many = _count(run, FEW), _count(run, MANY)
    if not few or not many:
        return {}
    counts = {name: (many[name] - few.get(name, 0)) / (MANY - FEW) for name in many}
    return {name: count for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count >= LEAST}


def _count(run: Run, tasks: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="strace-") as folder:
        report = Path(folder, "report")
        command = [sys.executable, "-m", "benchmarks.parent.system_calls"]
        arguments = [run.loop, str(run.in_flight), str(run.workers), str(tasks)]
        traced = ["strace", "-c", "-o", str(report), *command, *arguments]
        done = subprocess.run(traced, cwd=ROOT, capture_output=True, timeout=BOUND_S)
        if done.returncode:
            return {}
        return {name: int(calls) for calls, name in _LINE.findall(report.read_text()) if name != "total"}


async def _call(in_flight: int, workers: int, tasks: int) -> None:
    left = tasks
    async with Pool(max_workers=workers) as pool:

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await pool.run(noop)

        await asyncio.gather(*(caller() for _ in range(in_flight)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
        runner.run(_call(*map(int, sys.argv[2:])))
