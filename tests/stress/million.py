"""A very long sequence of small tasks: whatever grows with their number shows."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from statistics import linear_regression
from typing import TYPE_CHECKING, Any

import psutil

from lifepool import Pool
from tests.leaks import Snapshot, leaks_since
from tests.stress.footprint import Footprint
from tests.stress.jobs import MIB
from tests.tasks import double

if TYPE_CHECKING:
    import asyncio

SAMPLES = 40
#: Samples at the beginning that do not count: buffers and caches find their size.
WARM_SAMPLES = 8
#: Growth that is tolerated, in bytes per million tasks.
SLOPE_LIMIT = 4 * MIB
#: Growth in all, in bytes, below which a slope says nothing.
NOISE = 2 * MIB


@dataclass(frozen=True)
class Sequence:
    """What to do: how many tasks, how many of them at the same time, on how many workers."""

    tasks: int
    in_flight: int
    workers: int


async def million(sequence: Sequence) -> dict[str, Any]:
    """Run it; the report has the sampled series, and the slopes in bytes per million tasks."""
    baseline = Snapshot.take()
    async with Pool(max_workers=sequence.workers, max_queue=max(1000, sequence.in_flight)) as pool:
        began = time.monotonic()
        wrong, samples = await _measure(pool, sequence)
        seconds = time.monotonic() - began
    leaked = str(leaks_since(baseline)).splitlines()
    slopes = {name: _slope(samples, sequence, name) for name in ("server_rss", "workers_rss")}
    leaked += [
        f"{name} grows by {slope / MIB:.1f} MiB per million tasks"
        for name, slope in slopes.items()
        if slope > SLOPE_LIMIT and samples[-1][name] - samples[WARM_SAMPLES][name] > NOISE
    ]
    if samples[-1]["fds"] > samples[WARM_SAMPLES]["fds"]:
        leaked.append("descriptors grow")
    return {
        "tasks": sequence.tasks,
        "in_flight": sequence.in_flight,
        "seconds": round(seconds, 1),
        "tasks_per_s": round(sequence.tasks / seconds),
        "slopes_bytes_per_million": {name: round(slope) for name, slope in slopes.items()},
        **{name: [sample[name] for sample in samples] for name in samples[0]},
        "wrong": wrong,
        "hung": 0,
        "leaked": len(leaked),
        "examples": leaked,
    }


async def _measure(pool: Pool, sequence: Sequence) -> tuple[int, list[dict[str, int]]]:
    every = max(1, sequence.tasks // SAMPLES)
    under_way: deque[tuple[int, asyncio.Future[int]]] = deque()
    wrong, samples = 0, [_sample()]
    for number in range(sequence.tasks):
        under_way.append((number, pool.submit(double, number)))
        if len(under_way) >= sequence.in_flight:
            oldest, handle = under_way.popleft()
            wrong += await handle != 2 * oldest
        if number % every == every - 1:
            samples.append(_sample())
    for oldest, handle in under_way:
        wrong += await handle != 2 * oldest
    return wrong, samples


def _sample() -> dict[str, int]:
    server = psutil.Process()
    own = Footprint.of(server)
    workers = [Footprint.of(child) for child in server.children(recursive=True)]
    return {
        "server_rss": own.rss,
        "workers_rss": sum(worker.rss for worker in workers),
        "fds": own.fds + sum(worker.fds for worker in workers),
        "shared_maps": own.shared_maps,
    }


def _slope(samples: list[dict[str, int]], sequence: Sequence, name: str) -> float:
    """Return the growth in bytes per million tasks, once everything is warm."""
    series = [sample[name] for sample in samples[WARM_SAMPLES:]]
    return linear_regression(range(len(series)), series).slope * SAMPLES * 1e6 / sequence.tasks
