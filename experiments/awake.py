"""What does it gain and cost that workers and the event loop stay awake for a moment (decision 39)?

Run from the root of the checkout: ``python -m experiments.awake [rounds]``. It takes two minutes with 5 rounds.

For pools that sleep at once and pools that poll first, in turn and over both event loops: the round trip of a no-op
with 1 in flight (median, in microseconds), the server's CPU time for it, no-ops per second with 2, 8 and 64 in flight,
the share of the CPUs that tasks of 1 ms get, and the CPU time of server and workers for a no-op when 10, 100 or 1000
come a second.
"""

# ruff: noqa: T201 - an experiment prints its tables

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from unittest.mock import Mock, patch

import psutil
import uvloop

from benchmarks.tasks import burn, double
from lifepool import Pool

WORKERS = 2
CALLS, MANY, BURNS, SPARSE_S = 5000, 20_000, 1600, 2.0
IN_FLIGHT, RATES = (2, 8, 64), (10, 100, 1000)


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


async def sparse(pool: Pool, rate: int) -> float:
    """Measure the CPU microseconds of all processes for each of many no-ops with pauses between them."""
    processes = [psutil.Process(), *(psutil.Process(worker.pid) for worker in pool.workers() if worker.pid is not None)]

    def used() -> float:
        return sum(process.cpu_times().user + process.cpu_times().system for process in processes)

    before = used()
    calls = int(SPARSE_S * rate)
    for _ in range(calls):
        await pool.run(double, 1)
        await asyncio.sleep(1 / rate)
    return (used() - before) / calls * 1e6


async def measure(awake: bool) -> tuple[float, ...]:
    """Print one row."""
    decided = Mock(return_value=awake)
    with (
        patch("lifepool._engine.engine.may_poll", decided),
        patch("lifepool.backends.local.backend.may_poll", decided),
    ):
        pool = Pool(max_workers=WORKERS)
        await pool.start()
    async with pool:
        await together(pool, 1, 500)
        trips = []
        cpu = time.process_time()
        for _ in range(CALLS):
            started = time.perf_counter()
            await pool.run(double, 1)
            trips.append((time.perf_counter() - started) * 1e6)
        cpu = (time.process_time() - cpu) / CALLS * 1e6
        rates = [await together(pool, callers, MANY) for callers in IN_FLIGHT]
        used = [await sparse(pool, rate) for rate in RATES]
        return statistics.median(trips), cpu, *rates, await efficiency(pool), *used


def main(rounds: int) -> None:
    """Print the table."""
    for name, loop in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        rows: dict[bool, list[tuple[float, ...]]] = {False: [], True: []}
        for _ in range(rounds):
            for awake in (False, True):
                with asyncio.Runner(loop_factory=loop) as runner:
                    rows[awake].append(runner.run(measure(awake)))
        titles = ("trip us", "cpu us", *(f"{n} in flight" for n in IN_FLIGHT), "1 ms, %", *(f"{r}/s us" for r in RATES))
        print(f"{name:<18}{''.join(f'{title:>13}' for title in titles)}")
        for awake, measured in rows.items():
            middle, least, most = (
                [pick(column) for column in zip(*measured, strict=True)] for pick in (statistics.median, min, max)
            )
            for title, figures in (("median", middle), ("least", least), ("most", most)):
                line = "".join(f"{figure:>13.1f}" for figure in figures)
                print(f"{'awake' if awake else 'asleep':<8}{title:<10}{line}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
