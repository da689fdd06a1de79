"""Call a running, warm pool: how long each call takes, how many are done in a second."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lifepool.cli.bench import tasks
from lifepool.cli.bench.contenders import make_contender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lifepool.cli.bench.contenders import Contender

WARM_CALLS_PER_WORKER = 8
"""Concurrent calls before timing, so that every worker of a pool that starts them lazily is up."""


@asynccontextmanager
async def running(name: str, workers: int) -> AsyncIterator[Contender]:
    """Start the contender ``name``, have every worker answer, and close it at the end."""
    async with started(make_contender(name, workers)) as contender:
        yield contender


@asynccontextmanager
async def started(contender: Contender) -> AsyncIterator[Contender]:
    """Start a contender, have every worker answer, and close it at the end."""
    await contender.start()
    try:
        first = (contender.run(tasks.noop) for _ in range(contender.workers * WARM_CALLS_PER_WORKER))
        await asyncio.gather(*first)
        yield contender
    finally:
        await contender.close()


async def time_calls(contender: Contender, duration: float, fn: Callable[..., object], *args: Any) -> list[float]:
    """Return seconds of each call, one after the other for ``duration`` seconds."""
    samples: list[float] = []
    end = time.perf_counter() + duration
    while (before := time.perf_counter()) < end or not samples:
        await contender.run(fn, *args)
        samples.append(time.perf_counter() - before)
    return samples


async def count_calls(contender: Contender, duration: float, in_flight: int) -> float:
    """Return no-ops completed per second while ``in_flight`` callers call again and again."""
    completed = 0
    start = time.perf_counter()
    end = start + duration

    async def caller() -> None:
        nonlocal completed
        while time.perf_counter() < end:
            await contender.run(tasks.noop)
            completed += 1

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return completed / (time.perf_counter() - start)
