"""Many tasks submitted at once: does each cost the same, however many wait?"""

import asyncio
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from lifepool.cli.bench.contenders import LIFEPOOL, STANDARD
from lifepool.cli.bench.timing import running

MICROSECONDS = 1e6
WARM_TASKS = 2000
Submit = Callable[..., asyncio.Future[Any]]


async def measure_queue(name: str, parameters: Parameters) -> Outcome:
    """Measure time and memory of ``tasks`` no-ops, all submitted before the first answer is looked at.

    Memory is measured on a second batch, since counting it slows everything down.
    """
    count, workers = int(parameters["tasks"]), int(parameters["workers"])
    if name == LIFEPOOL:
        from lifepool import Pool

        async with Pool(max_workers=workers, max_queue=max(count, WARM_TASKS)) as pool:
            return await _measure(lambda: pool.submit(tasks.noop), count)
    async with running(name, workers) as contender:
        executor = vars(contender)["_executor"]
        loop = asyncio.get_running_loop()
        return await _measure(lambda: loop.run_in_executor(executor, tasks.noop), count)


async def _measure(submit: Submit, count: int) -> Outcome:
    await _batch(submit, WARM_TASKS)
    batches = max(1, WARM_TASKS // count)  # a few tasks are done too soon for the clock
    start, submitting = time.perf_counter(), 0.0
    for _ in range(batches):
        submitting += await _batch(submit, count)
    seconds = time.perf_counter() - start
    return Outcome(
        {
            "task": seconds / batches / count * MICROSECONDS,
            "submit": submitting / batches / count * MICROSECONDS,
            "memory": await _bytes_per_task(submit, count),
        }
    )


async def _batch(submit: Submit, count: int) -> float:
    """Submit so many tasks and have them answered; return the seconds that submitting them took."""
    start = time.perf_counter()
    futures = [submit() for _ in range(count)]
    seconds = time.perf_counter() - start
    for future in futures:
        await future
    return seconds


async def _bytes_per_task(submit: Submit, count: int) -> float:
    """Return bytes of the server's memory that a submitted task takes until it is answered."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        futures = [submit() for _ in range(count)]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    for future in futures:
        await future
    return taken / count


def queue_case(name: str, count: int) -> Case:
    """Return the case of ``count`` tasks at once."""
    return Case(
        name=f"queue-{name}",
        title=f"{count:,} no-ops submitted at once",
        metrics=(Metric("task", "µs"), Metric("submit", "µs"), Metric("memory", "bytes")),
        contenders=(LIFEPOOL, STANDARD),
        quick_contenders=(LIFEPOOL,),
        measure=measure_queue,
        full={"tasks": count},
        quick={"tasks": min(count, 500)},
        rounds=3,
        timeout=900.0,
    )
