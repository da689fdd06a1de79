"""Tasks of one length: which share of the CPUs does the users' code get?

Efficiency is the CPU time that the tasks used, divided by the wall time and the number of workers. The server shares
the CPUs with the workers, so that 100 % is out of reach where there are no more of them than workers.
"""

import asyncio
import math
import time

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from lifepool.cli.bench.contenders import LIFEPOOL, POOLS, REQUIRES, STANDARD, Contender
from lifepool.cli.bench.timing import running

PERCENT = 100.0
IN_FLIGHT_PER_WORKER = 8
LEAST_PER_WORKER = 5
MICROSECOND, MILLISECOND = 1e-6, 1e-3


async def seconds_for(contender: Contender, count: int, in_flight: int, length: float) -> float:
    """Return seconds for so many tasks of ``length`` CPU seconds each, ``in_flight`` at a time."""
    left = count

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await contender.run(tasks.burn, length)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return time.perf_counter() - start


async def measure_efficiency(name: str, parameters: Parameters) -> Outcome:
    """Measure tasks of one length, as many as take ``duration`` on ideal workers."""
    workers, length = int(parameters["workers"]), parameters["length"]
    in_flight = workers * IN_FLIGHT_PER_WORKER
    async with running(name, workers) as contender:
        warm = math.ceil(parameters["warmup"] / length) * workers
        await seconds_for(contender, min(warm, in_flight * 100), in_flight, length)
        # The same number for each worker, so that an ideal pool has all of them busy to the end.
        count = workers * max(LEAST_PER_WORKER, round(parameters["duration"] / length))
        seconds = await seconds_for(contender, count, in_flight, length)
    return Outcome(
        {"efficiency": PERCENT * count * length / (seconds * workers), "rate": count / seconds},
        {"tasks": count, "seconds": seconds},
    )


def efficiency_case(name: str, length: float, *, default: bool = False) -> Case:
    """Return the case of tasks of ``length`` CPU seconds."""
    return Case(
        name=f"efficiency-{name}",
        title=f"efficiency with tasks of {name} CPU",
        metrics=(Metric("efficiency", "%", "higher"), Metric("rate", "tasks/s", "higher")),
        contenders=POOLS,
        quick_contenders=(LIFEPOOL, STANDARD),
        measure=measure_efficiency,
        # A pool that needs 300 µs for a task of 10 is not to take 30 times as long.
        full={"length": length, "duration": 1.0 if length >= MILLISECOND else 0.2, "warmup": 0.3},
        quick={"length": length, "duration": 0.02, "warmup": 0.01},
        requires=REQUIRES,
        default=("asyncio",) if default else (),
        rounds=5 if default else 3,
    )


LENGTHS = {
    "10us": 10 * MICROSECOND,
    "100us": 100 * MICROSECOND,
    "1ms": MILLISECOND,
    "10ms": 10 * MILLISECOND,
    "100ms": 100 * MILLISECOND,
}
