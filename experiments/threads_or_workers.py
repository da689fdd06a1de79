"""What does work in threads do to the event loop, and what in workers? Eight tasks in flight, and a clock that ticks.

Run from the root of the checkout: ``python -m experiments.threads_or_workers``. The work is plain Python, which holds
the interpreter's lock. How late the ticks come is how long another request would wait for its turn.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from lifepool import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TASKS, IN_FLIGHT, WORK, TICK_S, ROUNDS = 40, 8, 600_000, 0.005, 3


def count(up_to: int) -> int:
    """Keep a CPU busy for some 30 ms."""
    total = 0
    for number in range(up_to):
        total += number & 1
    return total


async def lateness(stop: asyncio.Event) -> list[float]:
    """Tick until it is set; return by how many seconds each tick was late."""
    late = []
    while not stop.is_set():
        due = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        late.append(time.perf_counter() - due)
    return late


async def measure(run: Callable[[], Awaitable[object]]) -> tuple[float, list[float]]:
    """Return the seconds that all tasks took, and how late the ticks were meanwhile."""
    stop, room = asyncio.Event(), asyncio.Semaphore(IN_FLIGHT)

    async def one() -> None:
        async with room:
            await run()

    ticks = asyncio.ensure_future(lateness(stop))
    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(TASKS)))
    took = time.perf_counter() - began
    stop.set()
    return took, sorted(await ticks)


async def main() -> None:
    """Measure and print."""
    async with Pool() as pool:
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "asyncio.to_thread": lambda: asyncio.to_thread(count, WORK),
            "pool.run": lambda: pool.run(count, WORK),
        }
        print(f"{TASKS} tasks, {IN_FLIGHT} in flight, {pool.max_workers} workers")
        for _ in range(ROUNDS):
            for name, run in ways.items():
                took, late = await measure(run)
                half, most = late[len(late) // 2], late[int(len(late) * 0.99)]
                print(
                    f"{name:18} {took:5.2f} s; a tick was late by {half * 1e3:6.1f} ms (p50), {most * 1e3:6.1f} (p99)"
                )


if __name__ == "__main__":
    asyncio.run(main())
