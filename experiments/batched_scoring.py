"""When should a batch leave? Scoring with a real model, for few callers and many, by four rules and one by one.

Run from the root of the checkout: ``python -m experiments.batched_scoring``. It takes about two minutes.

``callers`` ask again as soon as they are answered, after thinking for a moment (exponentially distributed, 1 ms in the
mean), so that they do not march in step. All rules are those of ``lifepool._batching.collector`` but for what they
leave out.
"""

# ruff: noqa: T201, S311 - an experiment prints its table, and draws lots

from __future__ import annotations

import asyncio
import functools
import pickle
import random
import statistics
import sys
import time
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from lifepool._batching.collector import Batcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lifepool._pool.decorated import PoolBatch

WORKERS = 2
ROUNDS = 3
SECONDS = 1.2  # of each measurement
THINK_S = 0.001
CALLERS = (1, 8, 64, 256)
MAX_WAIT_S = 0.005
ARRIVALS_PER_S = 1000
OVERLOAD_S = 4
MODEL = Path(__file__).with_name("batched_scoring.model")

pool = Pool(max_workers=WORKERS, max_queue=10_000)


@pool.resource(eager=True)
def model() -> Any:
    """Load a forest that knows handwritten digits."""
    return pickle.loads(MODEL.read_bytes())  # noqa: S301 - written a moment ago by this program


def score(images: list[list[float]]) -> list[int]:
    """Return which digits these are."""
    found: list[int] = model().predict(images).tolist()
    return found


def score_one(image: list[float]) -> int:
    """Return which digit this is."""
    return score([image])[0]


def linear(items: list[list[float]]) -> list[int]:
    """Work that gains nothing from being done together: a third of a millisecond for each."""
    for _ in items:
        ends = perf_counter() + 0.0003
        while perf_counter() < ends:
            pass
    return [0] * len(items)


def linear_one(item: list[float]) -> int:
    """Return which digit this is, by the linear model."""
    return linear([item])[0]


def slow(items: list[list[float]]) -> list[int]:
    """Behave as a remote database: take 20 ms, however many are asked for."""
    time.sleep(0.02)
    return [0] * len(items)


class FixedWait(Batcher):
    """The usual rule: a batch leaves when it is full or ``max_wait`` has passed, whoever is free or busy."""

    def _is_due(self, now: float) -> bool:
        if not self._waiting:
            return False
        plan = self._plan
        return len(self._waiting) >= plan.max_size or now >= next(iter(self._waiting)).since + plan.max_wait


class Greedy(Batcher):
    """A batch leaves also if a worker is free, whatever else is under way."""

    def _is_due(self, now: float) -> bool:
        return super()._is_due(now) or (bool(self._waiting) and self.engine.queries.has_free_worker)


def rule(kind: type[Batcher], function: Any, window: int | None = None) -> PoolBatch[list[float], int]:
    """Batch a function by a rule; ``window`` overrides how many batches may be in the pool."""
    batch = pool.batch(max_size=32, max_wait=MAX_WAIT_S)(function)
    plan = batch._plan()
    plan = plan if window is None else plan._replace(window=window)
    batch._batcher = kind(pool._runtime.running_engine(), batch._submit, plan)
    return batch


def rules() -> dict[str, Callable[[list[float]], Awaitable[int]]]:
    """Return the rules to compare."""
    compared: dict[str, Callable[[list[float]], Awaitable[int]]] = {}
    for name, one, many in (("forest", score_one, score), ("linear", linear_one, linear)):
        compared |= {
            f"{name}: pool.run": functools.partial(pool.run, one),
            f"{name}: a. full or 5 ms": rule(FixedWait, many, 10_000),
            f"{name}: b. at once if a worker is free": rule(Greedy, many),
            f"{name}: c. at once if none is under way": rule(Batcher, many),
            f"{name}: d. as c, any number in the pool": rule(Batcher, many, 10_000),
        }
    return compared


async def measure(
    call: Callable[[list[float]], Awaitable[int]], images: Any, callers: int
) -> tuple[float, float, float]:
    """Measure answers a second, and median and 99th percentile of the latency in ms."""
    latencies: list[float] = []
    ends = perf_counter() + SECONDS

    async def caller(seed: int) -> None:
        rng = random.Random(seed)
        while (began := perf_counter()) < ends:
            await call(images[rng.randrange(len(images))])
            latencies.append(perf_counter() - began)
            await asyncio.sleep(rng.expovariate(1 / THINK_S))

    began = perf_counter()
    await asyncio.gather(*map(caller, range(callers)))
    latencies.sort()
    return (
        len(latencies) / (perf_counter() - began),
        1e3 * statistics.median(latencies),
        1e3 * latencies[int(0.99 * (len(latencies) - 1))],
    )


async def overload(call: Callable[[list[float]], Awaitable[int]]) -> list[float]:
    """Measure latencies in ms, in order, of calls that come at random, 1000 a second, answered or not."""
    rng = random.Random(1)
    began = perf_counter()
    calls: list[asyncio.Task[float]] = []
    when = began

    async def timed(due: float) -> float:
        await call([0.0])
        return 1e3 * (perf_counter() - due)

    while when < began + OVERLOAD_S:
        when += rng.expovariate(ARRIVALS_PER_S)
        await asyncio.sleep(when - perf_counter())
        calls.append(asyncio.ensure_future(timed(when)))
    return sorted(await asyncio.gather(*calls))


async def show_overload() -> None:
    """Compare slow batches at steady arrivals with and without a bound on the batches in the pool."""
    print(f"{ARRIVALS_PER_S} calls a second for {OVERLOAD_S} s; a batch of any size takes 20 ms")
    for name, window in (("c. at most 2 batches a worker", None), ("d. any number in the pool", 10_000)):
        latencies = await overload(rule(Batcher, slow, window))
        middle, tail = latencies[len(latencies) // 2], latencies[int(0.99 * len(latencies))]
        print(f"p50 {middle:7.1f} ms  p99 {tail:7.1f} ms  {name}")


def train() -> list[list[float]]:
    """Train the model and store it; return images to ask about."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    digits = load_digits()
    MODEL.write_bytes(pickle.dumps(RandomForestClassifier(30, random_state=1).fit(digits.data, digits.target)))
    images: list[list[float]] = digits.data.tolist()
    return images


async def main() -> None:
    """Measure all in turn, several times, and print medians."""
    images = train()
    rounds: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
    try:
        async with pool:
            await show_overload()
            compared = rules()
            for _ in range(ROUNDS):
                for callers in CALLERS:
                    for name, call in compared.items():
                        rounds.setdefault((callers, name), []).append(await measure(call, images, callers))
    finally:
        MODEL.unlink()
    print(f"{WORKERS} workers, median of {ROUNDS} rounds of {SECONDS:g} s (range of answers/s)")
    for (callers, name), values in rounds.items():
        rate, middle, tail = (statistics.median(column) for column in zip(*values, strict=True))
        low, high = min(v[0] for v in values), max(v[0] for v in values)
        figures = f"{rate:7.0f}/s ({low:.0f} to {high:.0f})  p50 {middle:7.2f} ms  p99 {tail:7.2f} ms"
        print(f"{callers:4} callers  {figures}  {name}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
