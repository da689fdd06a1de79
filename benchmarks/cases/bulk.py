"""Many tiny items through the pool's own ``map``: what does an item cost when calls are sent in chunks?

Each pool is used as its documentation shows for this. Where a pool needs the size of a chunk it is given
``chunk``, 1000, which is near its best (``--set chunk=...`` tries another). lifepool, mpire, joblib and
``multiprocessing.Pool`` choose it themselves. The callers of blocking pools have a thread, so that the event loop is
free in all of them.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from benchmarks.tasks import double
from lifepool.cli.bench.contenders import LIFEPOOL, STANDARD
from lifepool.cli.bench.timing import running

Warm = Callable[[], Coroutine[Any, Any, None]]
MapAll = Callable[[Iterable[int]], Coroutine[Any, Any, int]]
WARM_ITEMS = 10_000


async def measure_map(name: str, parameters: Parameters) -> Outcome:
    """Measure ``double`` over a range of numbers, from the first item to the last result, on warm workers."""
    items, workers, chunk = int(parameters["items"]), int(parameters["workers"]), int(parameters["chunk"])
    seconds: float = await MAPS[name](workers, chunk, items)
    return Outcome({"rate": items / seconds, "seconds": seconds})


async def _timed(map_all: MapAll, items: int) -> float:
    """Time all items, on workers that have had some before, and check the results by their sum."""
    for count in (min(items, WARM_ITEMS), items):
        start = time.perf_counter()
        total = await map_all(range(count))
        seconds = time.perf_counter() - start
        if total != count * (count - 1):
            raise RuntimeError(f"the results of {count} items are wrong: {total}")
    return seconds


async def _lifepool(workers: int, _chunk: int, items: int) -> float:
    from lifepool import Pool

    async with Pool(max_workers=workers) as pool:
        # All results in a list, as most of the others make it. `pool.map` streams them: its memory is bounded, and
        # each result costs a step of the event loop's machinery.
        async def map_all(numbers: Iterable[int]) -> int:
            return sum(await pool.gather(double, numbers))

        return await _timed(map_all, items)


def _executor(name: str) -> Callable[[int, int, int], Coroutine[Any, Any, float]]:
    async def measure(workers: int, chunk: int, items: int) -> float:
        async with running(name, workers) as contender:
            executor: Any = vars(contender)["_executor"]

            def work(numbers: Iterable[int]) -> int:
                return sum(executor.map(double, numbers, chunksize=chunk))

            return await _timed(lambda numbers: asyncio.to_thread(work, numbers), items)

    return measure


async def _pebble(workers: int, chunk: int, items: int) -> float:
    from pebble import ProcessPool

    with ProcessPool(max_workers=workers) as pool:

        def work(numbers: Iterable[int]) -> int:
            return sum(pool.map(double, numbers, chunksize=chunk).result())

        return await _timed(lambda numbers: asyncio.to_thread(work, numbers), items)


async def _multiprocessing(workers: int, _chunk: int, items: int) -> float:
    from multiprocessing import Pool

    with Pool(workers) as pool:
        return await _timed(lambda numbers: asyncio.to_thread(lambda: sum(pool.map(double, numbers))), items)


async def _mpire(workers: int, _chunk: int, items: int) -> float:
    from mpire.pool import WorkerPool

    with WorkerPool(n_jobs=workers, keep_alive=True) as pool:
        return await _timed(lambda numbers: asyncio.to_thread(lambda: sum(pool.map(double, numbers))), items)


async def _joblib(workers: int, _chunk: int, items: int) -> float:
    from joblib import Parallel, delayed

    with Parallel(n_jobs=workers, return_as="generator") as parallel:

        def work(numbers: Iterable[int]) -> int:
            return sum(parallel(delayed(double)(number) for number in numbers))

        return await _timed(lambda numbers: asyncio.to_thread(work, numbers), items)


MAPS: dict[str, Callable[[int, int, int], Coroutine[Any, Any, float]]] = {
    LIFEPOOL: _lifepool,
    STANDARD: _executor(STANDARD),
    "multiprocessing": _multiprocessing,
    "loky": _executor("loky"),
    "pebble": _pebble,
    "mpire": _mpire,
    "joblib": _joblib,
}


def map_case(name: str, items: int) -> Case:
    """Return the case of so many tiny items."""
    return Case(
        name=f"map-{name}",
        title=f"map of {items:,} tiny items",
        metrics=(Metric("rate", "items/s", "higher"), Metric("seconds", "s")),
        contenders=tuple(MAPS),
        quick_contenders=(LIFEPOOL, "multiprocessing"),
        measure=measure_map,
        full={"items": items, "chunk": 1000},
        quick={"items": 2000, "chunk": 100},
        requires={name: (name,) for name in ("loky", "pebble", "mpire", "joblib")},
        default=("asyncio",),
        rounds=3,
        timeout=180.0,
    )
