"""Should a worker stay awake for a moment after it has answered, in case the next task comes at once?

Run from the root of the checkout: ``python -m experiments.awake [rounds]``. It takes two minutes with 5 rounds.

For workers that go to sleep at once and workers that stay awake, in turn and over both event loops: the round trip of a
no-op with 1 in flight (median, in microseconds), the server's CPU time for it, no-ops per second with 8 and 64 in
flight, the share of the CPUs that tasks of 1 ms get, and the workers' CPU time for a no-op when one comes every 10 ms.
"""

# ruff: noqa: T201 - an experiment prints its tables

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import psutil
import uvloop

from benchmarks.tasks import burn, double
from lifepool import Pool
from lifepool.backends.local.worker import tickets

WORKERS = 2
CALLS, MANY, BURNS, SPARSE = 5000, 20_000, 1600, 200


def sleep_at_once() -> None:
    """Prepare a worker before its first task."""
    tickets.AWAKE_S = tickets.PROBE_S = 0.0


async def together(pool: Pool, callers: int, calls: int) -> float:
    """Measure no-ops per second."""

    async def caller() -> None:
        for _ in range(calls // callers):
            await pool.run(double, 1)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return calls / (time.perf_counter() - started)


async def efficiency(pool: Pool) -> float:
    """Measure the percentage of the CPUs that is used."""
    started = time.perf_counter()

    async def caller() -> None:
        for _ in range(BURNS // 4):
            await pool.run(burn, 0.001)

    await asyncio.gather(*(caller() for _ in range(4)))
    return 100 * BURNS * 0.001 / (time.perf_counter() - started) / WORKERS


async def sparse(pool: Pool) -> float:
    """Measure the workers' CPU microseconds for each of many no-ops with pauses between them."""
    processes = [psutil.Process(worker.pid) for worker in pool.workers() if worker.pid is not None]

    def used() -> float:
        return sum(process.cpu_times().user + process.cpu_times().system for process in processes)

    before = used()
    for _ in range(SPARSE):
        await pool.run(double, 1)
        await asyncio.sleep(0.01)
    return (used() - before) / SPARSE * 1e6


async def measure(awake: bool) -> tuple[float, ...]:
    """Print one row."""
    async with Pool(max_workers=WORKERS, initializer=None if awake else sleep_at_once) as pool:
        await together(pool, 1, 500)
        trips = []
        cpu = time.process_time()
        for _ in range(CALLS):
            started = time.perf_counter()
            await pool.run(double, 1)
            trips.append((time.perf_counter() - started) * 1e6)
        cpu = (time.process_time() - cpu) / CALLS * 1e6
        rates = [await together(pool, callers, MANY) for callers in (8, 64)]
        return statistics.median(trips), cpu, *rates, await efficiency(pool), await sparse(pool)


def main(rounds: int) -> None:
    """Print the table."""
    for name, loop in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        rows: dict[bool, list[tuple[float, ...]]] = {False: [], True: []}
        for _ in range(rounds):
            for awake in (False, True):
                with asyncio.Runner(loop_factory=loop) as runner:
                    rows[awake].append(runner.run(measure(awake)))
        print(f"{name:<22}  trip us   cpu us        8/s       64/s   1 ms, %  sparse, us")
        for awake, measured in rows.items():
            middle, least, most = (
                [pick(column) for column in zip(*measured, strict=True)] for pick in (statistics.median, min, max)
            )
            for title, figures in (("median", middle), ("least", least), ("most", most)):
                line = "".join(f"{figure:>10.1f}" for figure in figures)
                print(f"{'awake' if awake else 'asleep':<8}{title:<10}{line}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
