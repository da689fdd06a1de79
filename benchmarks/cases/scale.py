"""One server at its limits: many callers at once, a queue filled to the brim, many workers that start together.

More waiting tasks are in ``queueing.py`` and more workers in ``scaling.py``.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from unittest import mock

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from benchmarks.cases.lag import lag_metered
from benchmarks.probe import health_probed
from lifepool.cli.bench.contenders import LIFEPOOL, STANDARD, Contender, Lifepool, make_contender
from lifepool.cli.bench.timing import count_calls, started
from lifepool.cli.summary import latency_metrics

MICROSECONDS, MILLISECONDS = 1e6, 1e3
PER_TURN = 1000
"""Tasks submitted or cancelled before the event loop has its turn, as a careful user would."""
DRAIN_S = 0.01
"""The end of the pool overtakes what waits. Zero is no time that a pool can be given."""


class WithRoom(Lifepool):
    """lifepool with a queue for so many callers: by default it refuses those beyond a thousand.

    Args:
        workers: Processes.
        callers: At once.
    """

    def __init__(self, workers: int, callers: int) -> None:
        super().__init__(workers)
        self._callers = callers

    async def start(self) -> None:
        """Start the pool."""
        from lifepool import Pool

        self._pool = Pool(max_workers=self.workers, max_queue=max(1000, self._callers))
        await self._pool.__aenter__()


async def measure_callers(name: str, parameters: Parameters) -> Outcome:
    """Measure what a no-op costs, and how long ``/health`` takes, with so many callers at once."""
    callers, duration = int(parameters["callers"]), parameters["duration"]
    workers = int(parameters["workers"])
    pool: Contender = WithRoom(workers, callers) if name == LIFEPOOL else make_contender(name, workers)
    async with started(pool) as contender:
        await count_calls(contender, parameters["warmup"], callers)
        async with health_probed(duration) as answers:
            rate = await count_calls(contender, duration, callers)
        health = latency_metrics(answers.result(), MILLISECONDS)
    return Outcome(
        {"task": MICROSECONDS / rate, "health p99": health["p99"], "health max": health["max"]},
        {"answers": len(answers.result())},
    )


async def measure_full_queue(_: str, parameters: Parameters) -> Outcome:
    """Measure what it takes to fill a queue, to cancel all that waits, to close on a full one; and the stalls."""
    from lifepool import Pool, TaskHandle

    count = int(parameters["tasks"])
    async with lag_metered() as lags:
        await asyncio.sleep(0)

        async def fill(pool: Pool) -> list[TaskHandle[int]]:
            handles: list[TaskHandle[int]] = []
            while len(handles) < count:
                handles += (pool.submit(tasks.stay, 3600.0) for _ in range(min(PER_TURN, count - len(handles))))
                await asyncio.sleep(0)
            return handles

        pool = Pool(max_workers=int(parameters["workers"]), max_queue=count, drain_timeout=DRAIN_S)
        async with pool:
            lags.clear()  # importing the package is not what is asked for
            start = time.perf_counter()
            handles = await fill(pool)
            filled = time.perf_counter()
            for number, handle in enumerate(handles):
                handle.cancel()
                if not number % PER_TURN:
                    await asyncio.sleep(0)
            cancelled = time.perf_counter()
            await asyncio.wait(handles)
            handles = await fill(pool)
            await asyncio.sleep(0.02)
            before = max(lags)
            lags.clear()
            closing = time.perf_counter()
        closed = time.perf_counter()
        await asyncio.sleep(0.02)
    if not all(handle.done() for handle in handles):
        raise RuntimeError("a task has no outcome")
    return Outcome(
        {
            "submit": (filled - start) / count * MICROSECONDS,
            "cancel": (cancelled - filled) / count * MICROSECONDS,
            "close": closed - closing,
            "stall at close": max(lags) * MILLISECONDS,
            "stall before": before * MILLISECONDS,
        }
    )


async def measure_start(name: str, parameters: Parameters) -> Outcome:
    """Measure how long a pool takes to start whose workers each compute for ``setup`` seconds first, as imports do."""
    from lifepool import Pool
    from lifepool._core import policy

    workers, setup = int(parameters["workers"]), parameters["setup"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "starts")
        pool = Pool(max_workers=workers, initializer=tasks.set_up, initargs=(setup, str(log)))
        most = policy.starts_at_once if name != TOGETHER else lambda *_: workers
        start = time.perf_counter()
        with mock.patch.object(policy, "starts_at_once", most):
            async with pool:
                started = time.perf_counter() - start
        each = _seconds_in(log)
    if len(each) != workers:
        raise RuntimeError(f"{len(each)} of {workers} workers were set up")
    return Outcome({"start": started, "one worker, median": each[len(each) // 2], "one worker, most": each[-1]})


def _seconds_in(log: Path) -> list[float]:
    return sorted(float(line) for line in log.read_text(encoding="utf-8").split())


TOGETHER = "all at once"
"""Not another pool: lifepool whose workers all start at the same time."""


def callers_case(name: str, callers: int) -> Case:
    """Return the case of so many callers."""
    return Case(
        name=f"callers-{name}",
        title=f"no-ops for {callers:,} callers at once, and /health meanwhile",
        metrics=(Metric("task", "µs"), Metric("health p99", "ms"), Metric("health max", "ms")),
        contenders=(LIFEPOOL, STANDARD),
        quick_contenders=(LIFEPOOL,),
        measure=measure_callers,
        full={"callers": callers, "duration": 3.0, "warmup": 0.5},
        quick={"callers": min(callers, 20), "duration": 0.1, "warmup": 0.02},
        rounds=3,
        timeout=120.0,
    )


def full_queue_case(name: str, count: int) -> Case:
    """Return the case of a queue with so many tasks that wait."""
    return Case(
        name=f"full-queue-{name}",
        title=f"{count:,} tasks submitted, cancelled, submitted again and overtaken by the end of the pool",
        metrics=(
            Metric("submit", "µs"),
            Metric("cancel", "µs"),
            Metric("close", "s"),
            Metric("stall at close", "ms"),
            Metric("stall before", "ms"),
        ),
        contenders=(LIFEPOOL,),
        quick_contenders=(LIFEPOOL,),
        measure=measure_full_queue,
        full={"tasks": count},
        quick={"tasks": min(count, 500)},
        rounds=3,
        timeout=300.0,
    )


def start_case(workers: int) -> Case:
    """Return the case of so many workers that start together."""
    return Case(
        name=f"start-{workers}",
        title=f"start of {workers} workers, each of which computes for 50 ms first",
        metrics=(Metric("start", "s"), Metric("one worker, median", "s"), Metric("one worker, most", "s")),
        contenders=(LIFEPOOL, TOGETHER),
        quick_contenders=(LIFEPOOL,),
        measure=measure_start,
        full={"workers": workers, "setup": 0.05},
        quick={"workers": min(workers, 3), "setup": 0.001},
        rounds=3,
        timeout=120.0,
    )
