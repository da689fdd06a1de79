"""More work than the pool can do, each task with a timeout: how many answers are still in time?

First the capacity is measured: tasks per second with always a few waiting. Then tasks arrive at random (a Poisson
process) at a multiple of it. An answer counts if it comes within its timeout. lifepool is given the timeout; a pool
that has none is called within ``asyncio.wait_for``, as one does.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from benchmarks.cases.lag import lag_metered
from lifepool.cli.bench.contenders import LIFEPOOL, REQUIRES, STANDARD, Contender, Lifepool
from lifepool.cli.bench.timing import running
from lifepool.cli.summary import percentile

PERCENT, MILLISECONDS = 100.0, 1e3

Call = Callable[[], Coroutine[Any, Any, None]]


class Overload:
    """One load on one contender.

    Args:
        contender: A running pool.
        run_s: CPU seconds of a task.
        timeout: Seconds after which nobody wants the answer any more.
    """

    def __init__(self, contender: Contender, run_s: float, timeout: float) -> None:
        self._contender = contender
        self._run_s = run_s
        self._timeout = timeout
        self.in_time = self.refused = self.late = 0

    async def capacity(self, duration: float, in_flight: int) -> float:
        """Return tasks per second while callers call again and again."""
        done, start = 0, time.perf_counter()
        end = start + duration

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < end:
                await self._contender.run(tasks.burn, self._run_s)
                done += 1

        await asyncio.gather(*(caller() for _ in range(in_flight)))
        return done / (time.perf_counter() - start)

    async def offer(self, rate: float, duration: float) -> float:
        """Send tasks at this rate; return the seconds until the last was answered or given up."""
        rng = random.Random(0)
        start = time.perf_counter()
        arrival, under_way = start, set[asyncio.Task[None]]()
        while arrival < start + duration:
            await asyncio.sleep(arrival - time.perf_counter())
            under_way.add(task := asyncio.ensure_future(self._one()))
            task.add_done_callback(under_way.discard)
            arrival += rng.expovariate(rate)
        if under_way:
            await asyncio.wait(set(under_way))
        return time.perf_counter() - start

    async def _one(self) -> None:
        start = time.perf_counter()
        try:
            await self._call()
        except TimeoutError:
            self.late += 1
        except Exception as error:
            if type(error).__name__ != "QueueFull":
                raise
            self.refused += 1
        else:
            if time.perf_counter() - start <= self._timeout:
                self.in_time += 1
            else:
                self.late += 1

    async def _call(self) -> None:
        if isinstance(self._contender, Lifepool):
            await self._contender._pool.run(tasks.burn, self._run_s, timeout=self._timeout)
        else:
            await asyncio.wait_for(self._contender.run(tasks.burn, self._run_s), self._timeout)


async def measure_overload(name: str, parameters: Parameters) -> Outcome:
    """Measure the goodput at ``factor`` times the capacity."""
    workers, duration = int(parameters["workers"]), parameters["duration"]
    async with running(name, workers) as contender:
        load = Overload(contender, parameters["run"], parameters["timeout"])
        capacity = await load.capacity(parameters["warmup"], workers * 2)
        async with lag_metered() as lags:
            seconds = await load.offer(parameters["factor"] * capacity, duration)
    offered = load.in_time + load.refused + load.late
    return Outcome(
        {
            "goodput": PERCENT * load.in_time / seconds / capacity,
            "refused": PERCENT * load.refused / offered,
            "late": PERCENT * load.late / offered,
            "lag p99": MILLISECONDS * percentile(sorted(lags), 0.99),
        },
        {"capacity": capacity, "offered": offered},
    )


def overload_case(factor: int) -> Case:
    """Return the case of an offered load of ``factor`` times the capacity."""
    return Case(
        name=f"overload-{factor}x",
        title=f"answers in time at {factor} times the capacity, 10 ms of CPU a task, timeout 200 ms",
        metrics=(
            Metric("goodput", "%", "higher"),
            Metric("refused", "%"),
            Metric("late", "%"),
            Metric("lag p99", "ms"),
        ),
        contenders=(LIFEPOOL, STANDARD),
        quick_contenders=(LIFEPOOL, STANDARD),
        measure=measure_overload,
        full={"factor": factor, "run": 0.01, "timeout": 0.2, "duration": 6.0, "warmup": 2.0},
        quick={"factor": factor, "run": 0.002, "timeout": 0.05, "duration": 0.3, "warmup": 0.2},
        requires=REQUIRES,
        rounds=3,
    )
