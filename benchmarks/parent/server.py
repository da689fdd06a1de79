"""A server process that does nothing but hand no-ops to a pool, with or without a stopwatch around its stages."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.parent.stages import POLL, STAGES, Stages
from benchmarks.parent.stopwatch import Stopwatch
from benchmarks.tasks import noop
from lifepool import Pool
from lifepool.cli.bench.cases import loop_factory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.parent.stopwatch import Overhead, Stage

WARMUP_S = 0.2
WARM_CALLS = 64


@dataclass(frozen=True)
class Run:
    """What is measured.

    Attributes:
        loop: ``asyncio`` or ``uvloop``.
        in_flight: Callers, each of which calls again as soon as it is answered.
        workers: Of the pool.
        duration: Seconds.
        pin: Give the server a CPU to itself, so that nothing that is measured is another process's time. Without it,
            or where the system can't, a stage may include that the kernel ran a worker in between.
    """

    loop: str
    in_flight: int
    workers: int
    duration: float
    pin: bool = True

    def summarise(self, rounds: Sequence[tuple[Measurement, Measurement]], calibrated: Overhead) -> dict[str, Any]:
        """Return the medians of rounds, in microseconds a task.

        Args:
            rounds: Of each, the measurement without and the one with the stopwatch.
            calibrated: The stopwatch's overhead for a function that does nothing.
        """
        plain, timed = [first for first, _ in rounds], [second for _, second in rounds]
        totals = [m.cpu_us for m in plain]
        # What the stopwatch really costs, in this work: caches are colder than in a loop around a function.
        extra = median(second.cpu_us - first.cpu_us for first, second in rounds)
        overhead = calibrated.scaled(extra * 1e3 / median(m.switches for m in timed))
        stages = {
            name: {
                "us": median(m.stages[name].net_ns(overhead) / m.tasks for m in timed) / 1e3,
                "calls": median(m.stages[name].calls / m.tasks for m in timed),
            }
            for name in STAGES
            if all(name in m.stages for m in timed)
        }
        return {
            **asdict(self),
            "rounds": len(rounds),
            "total_us": median(totals),
            "total_range": [min(totals), max(totals)],
            "wall_us": median(m.wall_ns / m.tasks / 1e3 for m in plain),
            "stages": stages,
            "stages_us": sum(stage["us"] for name, stage in stages.items() if name != POLL),
            # Only where the wait is a stage of its own is what remains the loop's work alone.
            "loop_us": median(m.rest.net_ns(overhead) / m.tasks for m in timed) / 1e3 if POLL in stages else None,
            "overhead_ns": asdict(overhead),
            "calibrated_overhead_ns": asdict(calibrated),
            "missing": timed[0].missing,
        }


@dataclass
class Measurement:
    """What one measurement came to: so many tasks, and nanoseconds for all of them together."""

    tasks: int = 0
    wall_ns: int = 0
    cpu_ns: int = 0
    stages: dict[str, Stage] = field(default_factory=dict)
    rest: Any = None
    missing: list[str] = field(default_factory=list)

    @property
    def cpu_us(self) -> float:
        """Return microseconds of CPU a task."""
        return self.cpu_ns / self.tasks / 1e3

    @property
    def switches(self) -> float:
        """Return the timed calls a task."""
        return sum(stage.calls for stage in self.stages.values()) / self.tasks


def measure(run: Run, *, timed: bool) -> Measurement:
    """Measure once, on an event loop and with a pool made for it."""
    with asyncio.Runner(loop_factory=loop_factory(run.loop)) as runner:
        return runner.run(_measure(run, timed=timed))


async def _measure(run: Run, *, timed: bool) -> Measurement:
    watch = Stopwatch()
    stages = Stages(watch)
    with stages.timed() if timed else nullcontext():
        async with Pool(max_workers=run.workers) as pool:
            await asyncio.gather(*(pool.run(noop) for _ in range(WARM_CALLS)))
            allowed = _pin() if run.pin else None
            try:
                await _calls(pool, run.in_flight, WARMUP_S)
                watch.restart()
                measurement = await _calls(pool, run.in_flight, run.duration)
                watch.stop()
            finally:
                if allowed is not None:
                    os.sched_setaffinity(0, allowed)
    measurement.stages, measurement.rest, measurement.missing = watch.stages, watch.rest, stages.missing
    return measurement


def _pin() -> set[int] | None:
    """Give this process one CPU and its workers the others; return what it had, or None if nothing was changed."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    own = max(allowed)
    others = allowed - {own}
    if not others:
        return None
    for child in psutil.Process().children(recursive=True):
        os.sched_setaffinity(child.pid, others)
    os.sched_setaffinity(0, {own})
    return allowed


async def _calls(pool: Pool, in_flight: int, duration: float) -> Measurement:
    """Have so many callers call for this long."""
    measurement, over = Measurement(), False

    async def caller() -> None:
        while not over:
            await pool.run(noop)
            measurement.tasks += 1

    def end() -> None:
        nonlocal over
        over = True

    asyncio.get_running_loop().call_later(duration, end)
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    measurement.wall_ns, measurement.cpu_ns = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
    return measurement
