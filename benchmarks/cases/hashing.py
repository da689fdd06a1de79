"""Work that lets go of the interpreter's lock, where threads are an honest alternative: no copies, no processes.

``hashlib``, ``zlib`` and parts of numpy compute without the lock. Pure Python does not, and for that threads would only
be a slower way to do one thing at a time; so they compete here and nowhere else.
"""

import asyncio
import os
import time
from concurrent.futures import Executor

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from lifepool.cli.bench.contenders import LIFEPOOL, POOLS, REQUIRES, Contender, ExecutorContender
from lifepool.cli.bench.timing import running, started

THREADS = "threads"
MEBIBYTE = 1 << 20


class Threads(ExecutorContender):
    """``ThreadPoolExecutor``."""

    def make_executor(self) -> Executor:
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(self.workers)


async def measure_hashing(name: str, parameters: Parameters) -> Outcome:
    """Measure digests a second of a text that is sent along with each call."""
    workers = int(parameters["workers"])
    text = os.urandom(int(parameters["size"]))
    pool = started(Threads(workers)) if name == THREADS else running(name, workers)
    async with pool as contender:
        for duration in (parameters["warmup"], parameters["duration"]):
            rate = await _rate(contender, duration, workers * 4, text)
    return Outcome({"rate": rate})


async def _rate(contender: Contender, duration: float, in_flight: int, text: bytes) -> float:
    done, start = 0, time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() - start < duration:
            await contender.run(tasks.digest, text)
            done += 1

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return done / (time.perf_counter() - start)


def hashing_case() -> Case:
    """Return the case of SHA-256 over 1 MiB."""
    return Case(
        name="sha256-1MiB",
        title="SHA-256 of 1 MiB that is sent along, 4 in flight a worker",
        metrics=(Metric("rate", "digests/s", "higher"),),
        contenders=(*POOLS, THREADS),
        quick_contenders=(LIFEPOOL, THREADS),
        measure=measure_hashing,
        full={"size": MEBIBYTE, "duration": 0.8, "warmup": 0.3},
        quick={"size": MEBIBYTE, "duration": 0.05, "warmup": 0.02},
        requires=REQUIRES,
        default=("asyncio",),
        rounds=3,
    )
