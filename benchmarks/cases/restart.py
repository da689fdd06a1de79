"""A worker of an idle pool is killed: how long until the next answer, and until all workers are there again?

That all are there is proven by answers: as many tasks as workers, submitted together, must come from as many
processes. A pool that is broken by the loss of a worker is replaced by a new one, as its users have to do.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from typing import Any, TypeVar

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from lifepool.cli.bench.contenders import (
    LIFEPOOL,
    POOLS,
    REQUIRES,
    STANDARD,
    Contender,
    ExecutorContender,
)
from lifepool.cli.bench.timing import running
from lifepool.cli.summary import percentile

T = TypeVar("T")
MILLISECONDS = 1e3
STAY_S = 0.001  # a task keeps its worker for so long that its neighbour must come from another
GIVE_UP_S = 10.0
MOST_FAILURES = 3


class Mender:
    """Call a pool that may have lost a worker, until it answers.

    Attributes:
        broken: How often the pool had to be replaced.
        failed: Calls that raised, and were tried again.
    """

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self.broken = self.failed = 0

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run a task, again if the pool fails."""
        end, failures = time.perf_counter() + GIVE_UP_S, 0
        while True:
            try:
                return await self._contender.run(fn, *args)
            except Exception as error:
                failures += 1
                self.failed += 1
                if time.perf_counter() > end:
                    raise
                # One task may go down with its worker. A pool that goes on failing has no future.
                if isinstance(error, BrokenExecutor) or failures == MOST_FAILURES:
                    await self._replace()

    async def _replace(self) -> None:
        self.broken += 1
        contender = self._contender
        if isinstance(contender, ExecutorContender):
            contender._executor.shutdown(wait=False)
            contender._executor = contender.make_executor()
        else:
            with suppress(Exception):
                await contender.close()
            await contender.start()

    async def all_workers(self) -> set[int]:
        """Ask until as many processes answer as there should be workers.

        Raises:
            TimeoutError: If they don't come.
        """
        workers, end = self._contender.workers, time.perf_counter() + GIVE_UP_S
        while time.perf_counter() < end:
            found = set(await asyncio.gather(*(self.run(tasks.stay, STAY_S) for _ in range(workers))))
            if len(found) == workers:
                return found
        raise TimeoutError(f"no {workers} workers within {GIVE_UP_S} s")


async def measure_restart(name: str, parameters: Parameters) -> Outcome:
    """Kill workers, one after the other, each when all are there."""
    again: list[float] = []
    answered: list[float] = []
    async with running(name, int(parameters["workers"])) as contender:
        mender = Mender(contender)
        for _ in range(int(parameters["kills"])):
            victim = max(await mender.all_workers())
            start = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            await mender.run(tasks.noop)
            answered.append((time.perf_counter() - start) * MILLISECONDS)
            while victim in await mender.all_workers():
                pass
            again.append((time.perf_counter() - start) * MILLISECONDS)
    return Outcome(
        {
            "all again": percentile(sorted(again), 0.5),
            "all again, max": max(again),
            "next answer": percentile(sorted(answered), 0.5),
        },
        {"replaced": mender.broken, "failed": mender.failed, "all again ms": again, "next answer ms": answered},
    )


def restart_case() -> Case:
    """Return the case of a killed worker."""
    return Case(
        name="restart",
        title="a worker is killed: time until all workers are there again",
        metrics=(Metric("all again", "ms"), Metric("all again, max", "ms"), Metric("next answer", "ms")),
        contenders=POOLS,
        quick_contenders=(LIFEPOOL, STANDARD),
        measure=measure_restart,
        full={"kills": 9},
        quick={"kills": 1},
        requires=REQUIRES,
        default=("asyncio",),
        rounds=3,
    )
