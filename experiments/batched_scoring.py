"""When should a batch leave? Scoring with a real model, for few callers and many, by three rules and one by one.

Run from the root of the checkout: ``python -m experiments.batched_scoring``. It takes about two minutes.

``callers`` ask again as soon as they are answered, after thinking for a moment (exponentially distributed, 1 ms in the
mean), so that they do not march in step. All rules are those of ``lifepool.batching`` but for what they leave out.
"""

# ruff: noqa: T201, S311 - an experiment prints its table, and draws lots

from __future__ import annotations

import asyncio
import pickle
import random
import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from lifepool.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lifepool.decorated import PoolBatch

WORKERS = 2
ROUNDS = 3
SECONDS = 2.0  # of each measurement
THINK_S = 0.001
CALLERS = (1, 8, 64, 256)
MAX_WAIT_S = 0.005
MODEL = Path(__file__).with_name("batched_scoring.model")

pool = Pool(max_workers=WORKERS, max_queue=10_000)


@pool.resource(eager=True)
def model() -> Any:
    """A forest that knows handwritten digits."""
    return pickle.loads(MODEL.read_bytes())  # noqa: S301 - written a moment ago by this program


def score(images: list[list[float]]) -> list[int]:
    """Which digits these are."""
    found: list[int] = model().predict(images).tolist()
    return found


def score_one(image: list[float]) -> int:
    """Which digit this is."""
    return score([image])[0]


class FixedWait(Batcher):
    """The usual rule: a batch leaves when it is full or ``max_wait`` has passed, whoever is free or busy."""

    def _is_due(self, now: float) -> bool:
        if not self._waiting:
            return False
        plan = self._plan
        return len(self._waiting) >= plan.max_size or now >= next(iter(self._waiting)).since + plan.max_wait


def rule(kind: type[Batcher], window: int | None, **options: Any) -> PoolBatch[list[float], int]:
    """``score`` batched by a rule; ``window`` overrides how many batches may be in the pool."""
    batch = pool.batch(max_size=32, max_wait=MAX_WAIT_S, **options)(score)
    plan = batch._plan()
    plan = plan if window is None else plan._replace(window=window)
    batch._batcher = kind(pool._running_engine(), batch._submit, plan)
    return batch


def rules() -> dict[str, Callable[[list[float]], Awaitable[int]]]:
    """What is compared."""

    async def single(image: list[float]) -> int:
        return await pool.run(score_one, image)

    return {
        "no batches: pool.run": single,
        "wait 5 ms or 32, always": rule(FixedWait, 10_000),
        "leave if a worker is free": rule(Batcher, 10_000),
        "the same, at most 2 batches a worker (lifepool)": rule(Batcher, None),
    }


async def measure(
    call: Callable[[list[float]], Awaitable[int]], images: Any, callers: int
) -> tuple[float, float, float]:
    """Answers a second; median and 99th percentile of the latency in ms."""
    latencies: list[float] = []
    ends = perf_counter() + SECONDS

    async def caller(seed: int) -> None:
        luck = random.Random(seed)
        while (began := perf_counter()) < ends:
            await call(images[luck.randrange(len(images))])
            latencies.append(perf_counter() - began)
            await asyncio.sleep(luck.expovariate(1 / THINK_S))

    began = perf_counter()
    await asyncio.gather(*map(caller, range(callers)))
    latencies.sort()
    return (
        len(latencies) / (perf_counter() - began),
        1e3 * statistics.median(latencies),
        1e3 * latencies[int(0.99 * (len(latencies) - 1))],
    )


def train() -> list[list[float]]:
    """Train the model and store it; returns images to ask about."""
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
