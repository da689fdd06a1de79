"""How long a job takes to be accepted and to start, and how many a second.

``python -m experiments.jobs_latency [URL]``: without a URL on SQLite, in the current folder: the disk counts. Two
workers, jobs that do nothing, from one event loop.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time

from lifepool import Pool
from lifepool.jobs import Jobs

ONE_BY_ONE = 300
AT_ONCE = 2000


async def measure(url: str) -> None:
    """Print a line for latency and one for throughput."""
    async with Jobs(Pool(max_workers=2), store=url) as jobs:
        for _ in range(20):
            await jobs.wait((await jobs.submit(abs, -1)).id)
        submitted, started, done = [], [], []
        for _ in range(ONE_BY_ONE):
            began, clock = time.perf_counter(), time.time()
            job = await jobs.submit(abs, -1)
            submitted.append(time.perf_counter() - began)
            job = await jobs.wait(job.id)
            done.append(time.perf_counter() - began)
            started.append((job.started_at or clock) - clock)
        for name, values in (("submit", submitted), ("started after", started), ("result after", done)):
            values.sort()
            p50, p99 = values[len(values) // 2] * 1e3, values[len(values) * 99 // 100] * 1e3
            print(f"{name:<14} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms", flush=True)
        began = time.perf_counter()
        accepted = await asyncio.gather(*(jobs.submit(abs, -1) for _ in range(AT_ONCE)))
        print(f"{AT_ONCE} at once: accepted {AT_ONCE / (time.perf_counter() - began):,.0f}/s", end="", flush=True)
        await asyncio.gather(*(jobs.wait(job.id) for job in accepted))
        print(f", done {AT_ONCE / (time.perf_counter() - began):,.0f}/s (load average {os.getloadavg()[0]:.1f})")


def main() -> None:
    """Measure."""
    if len(sys.argv) > 1:
        asyncio.run(measure(sys.argv[1]))
        return
    for mode in ("FULL", "NORMAL"):
        with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
            print(f"SQLite, synchronous={mode}")
            asyncio.run(measure(f"sqlite:///{folder}/jobs.db?synchronous={mode}"))


if __name__ == "__main__":
    main()
