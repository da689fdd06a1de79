"""Measure two versions of lifepool in turn, in bursts of a fraction of a second.

A time says little on another machine, or on the same one an hour later. Nor does a ratio to another pool: it depends on
how quickly processes wake each other up. Two versions that are measured within the same second meet the same machine.
Each has a process of its own. Both are warm all the while, and the one whose turn it is not has nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.environment import ROOT
from lifepool.cli.processes import kill_group
from lifepool.cli.rounds import rotated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from benchmarks.regressions.calls import Case

ANSWER_S = 60.0  # for the start of a process, or a burst
END_S = 10.0  # for a process to end once its input has ended


@dataclass(frozen=True)
class Request:
    """How to measure.

    Attributes:
        now: The folder to import lifepool from.
        before: The folder to import the earlier lifepool from.
        workers: In each pool.
        seconds: Of a burst.
        bursts: Of each pool, after one that warms it up.
        slowed: By what today's time is multiplied artificially.
    """

    now: Path
    before: Path
    workers: int
    seconds: float
    bursts: int
    slowed: float = 1.0


class Side:
    """A process that calls one version of lifepool."""

    def __init__(self, process: asyncio.subprocess.Process, sources: Path) -> None:
        self._process = process
        self._sources = sources

    async def begin(self) -> None:
        """Wait until it has imported lifepool.

        Raises:
            RuntimeError: If it is another lifepool than it should be.
        """
        where = await self._read()
        if not where.startswith(str(self._sources)):
            raise RuntimeError(f"lifepool was imported from {where}, not from {self._sources}")

    async def burst(self, seconds: float) -> float:
        """Let it call for so many seconds; return the seconds that a call took."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it has ended: reading says so
            self._process.stdin.write(f"{seconds}\n".encode())
            await self._process.stdin.drain()
        return float(await self._read())

    async def end(self) -> None:
        """End it in order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_S)
        except TimeoutError:
            raise RuntimeError(f"lifepool from {self._sources} did not end in {END_S:g} s") from None

    async def _read(self) -> str:
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_S)
        except TimeoutError:
            raise RuntimeError(f"no answer in {ANSWER_S:g} s with lifepool from {self._sources}") from None
        if not line:
            raise RuntimeError(f"the process with lifepool from {self._sources} ended; see what it printed above")
        return line.decode().strip()


@contextlib.asynccontextmanager
async def _side(case: Case, sources: Path, request: Request, slowed: float) -> AsyncIterator[Side]:
    command = (sys.executable, "-m", "benchmarks.regressions.calls", case.key, str(request.workers), str(slowed))
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(sources)},
        process_group=0,
    )
    try:
        side = Side(process, sources)
        await side.begin()
        await side.burst(request.seconds)
        yield side
        await side.end()
    finally:
        kill_group(process.pid, END_S)
        await process.wait()


async def _bursts(case: Case, request: Request) -> float:
    async with (
        _side(case, request.before, request, 1.0) as before,
        _side(case, request.now, request, request.slowed) as now,
    ):
        sides = {"before": before, "now": now}
        ratios = []
        for index in range(request.bursts):
            seconds = {name: await sides[name].burst(request.seconds) for name in rotated(list(sides), index)}
            ratios.append(seconds["before"] / seconds["now"])
    return median(ratios)


def measure(case: Case, request: Request) -> float:
    """Return how many times as fast lifepool is as it was: the median over the bursts.

    Raises:
        RuntimeError: If it failed.
    """
    try:
        return asyncio.run(_bursts(case, request))
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(f"{case.key}: {error}") from error
