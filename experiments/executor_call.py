"""What does one call at a time cost through the drop-in executor, beside the standard one?

Run from the root of the checkout: ``python -m experiments.executor_call [rounds]``. It takes ten seconds with 5 rounds.

A thread submits a no-op, waits for its result, and goes on, in turn with each executor. lifepool's has an event loop on
a thread of its own, of the kind that ``asyncio.new_event_loop()`` makes: that is uvloop's after ``uvloop.install()``.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import Executor
from concurrent.futures import ProcessPoolExecutor as StandardExecutor
from multiprocessing import get_context

import uvloop

from benchmarks.tasks import noop
from lifepool.futures import ProcessPoolExecutor

CALLS, WARM_CALLS = 2000, 300
MICROSECONDS = 1e6


def measure(executor: Executor, calls: int) -> tuple[float, float]:
    """Return the median round trip, and this process's CPU time for each call, in microseconds."""
    seconds, cpu = list[float](), time.process_time()
    for _ in range(calls):
        begin = time.perf_counter()
        executor.submit(noop).result()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * MICROSECONDS, (time.process_time() - cpu) / calls * MICROSECONDS


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    figures: dict[str, list[tuple[float, float]]] = {"standard": [], "lifepool": [], "lifepool, uvloop": []}
    with (
        StandardExecutor(2, mp_context=get_context("forkserver")) as standard,
        ProcessPoolExecutor(2) as ours,
        ProcessPoolExecutor(2) as on_uvloop,
    ):
        executors = dict(zip(figures, (standard, ours, on_uvloop), strict=True))
        measure(standard, WARM_CALLS)
        measure(ours, WARM_CALLS)  # its loop is made with the first call
        uvloop.install()
        measure(on_uvloop, WARM_CALLS)
        for _ in range(rounds):
            for name, executor in executors.items():
                figures[name].append(measure(executor, CALLS))
    for name, measured in figures.items():
        times, cpu = [each for each, _ in measured], statistics.median(each for _, each in measured)
        ratios = [theirs[0] / own[0] for theirs, own in zip(figures["standard"], measured, strict=True)]
        print(
            f"{name:18} {statistics.median(times):5.0f} ({min(times):.0f}-{max(times):.0f}) us, {cpu:.0f} us of CPU, "
            f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f}) better than the standard one"
        )


if __name__ == "__main__":
    main()
