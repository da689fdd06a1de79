"""What does it cost a service to say no? CPU time of the server process, and of the load generator, for each request.

Run from the root of the checkout: ``python -m experiments.refusal_cost``. A service whose requests take 20 ms of CPU
gets ten times of what its two workers can do, as in the benchmark ``service-overload-10x``; its own process only reads
requests, hands a few on and refuses the rest.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import time
from collections import Counter

import psutil

from benchmarks.cases.service import END_BOUND, HEALTH, START_BOUND, start_server
from benchmarks.cases.service_overload import WORK
from benchmarks.client import Client
from benchmarks.services import LIFEPOOL
from examples.domains.listening import listen
from lifepool.cli.processes import end_leader

WORKERS, RATE, SECONDS, PATIENCE_S = 2, 1000, 5.0, 1.0


async def load(client: Client) -> Counter[int]:
    """Send requests at a fixed rate; return how many got which status."""
    statuses: Counter[int] = Counter()

    async def send(when: float) -> None:
        await asyncio.sleep(when - time.perf_counter())
        try:
            statuses[(await client.send(WORK, PATIENCE_S)).status] += 1
        except (TimeoutError, OSError):
            statuses[0] += 1

    began = time.perf_counter() + 0.1
    await asyncio.gather(*(send(began + number / RATE) for number in range(int(RATE * SECONDS))))
    return statuses


async def main() -> None:
    """Measure and print."""
    with listen("127.0.0.1", 0) as listener:
        process = start_server(LIFEPOOL, WORKERS, listener)
        client = Client(*listener.getsockname()[:2])
    try:
        await client.send(HEALTH, START_BOUND)
        await load(client)  # warm up, and learn
        server, own = psutil.Process(process.pid), psutil.Process()
        before, mine = server.cpu_times(), own.cpu_times()
        statuses = await load(client)
        after, mine_after = server.cpu_times(), own.cpu_times()
    finally:
        client.close()
        await asyncio.to_thread(end_leader, process, END_BOUND)
        if process.stdin is not None:
            process.stdin.close()
    each = 1e6 / statuses.total()
    spent = after.user + after.system - before.user - before.system
    generator = mine_after.user + mine_after.system - mine.user - mine.system
    print(f"answers by status: {dict(statuses)}")
    print(f"server process: {spent * each:.0f} µs of CPU a request, {spent / SECONDS:.0%} of one CPU")
    print(f"load generator: {generator * each:.0f} µs a request, {generator / SECONDS:.0%} of one CPU")
    print(f"left for {WORKERS} workers on {psutil.cpu_count()} CPUs: {2 - (spent + generator) / SECONDS:.2f} CPUs")


if __name__ == "__main__":
    asyncio.run(main())
