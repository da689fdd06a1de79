"""What does it cost to watch a pool? Throughput of no-ops, 64 in flight, without hooks, with each, and with all.

Run from the root of the checkout: ``python -m experiments.instrumentation_cost``. It takes about a minute; ``--loop
uvloop`` is the faster event loop, on which hooks weigh more. All is measured on one pool, in turn, round after round.
Put what watches a pool into ``INSTRUMENTS``, and it is measured as well.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import argparse
import asyncio
import statistics
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.measure import loop_factory
from benchmarks.tasks import noop
from lifepool import Pool
from lifepool.hooks import Hook, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

IN_FLIGHT = 64
NOTHING = "no hooks"
EVERYTHING = "all of them"


class Bare(Hook):
    """Hears of each task and does nothing: what the records alone cost."""

    def task_settled(self, task: TaskRecord) -> None:
        """Nothing."""


INSTRUMENTS: dict[str, Callable[[], list[Hook]]] = {
    "a hook that does nothing": lambda: [Bare()],
}


async def throughput(pool: Pool, seconds: float) -> float:
    """No-ops per second."""
    done = 0
    end = perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while perf_counter() < end:
            await pool.run(noop)
            done += 1

    began = perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return done / (perf_counter() - began)


async def watched(pool: Pool, hooks: Sequence[Hook], seconds: float) -> float:
    """Throughput with these hooks."""
    for hook in hooks:
        pool.add_hook(hook)
    try:
        return await throughput(pool, seconds)
    finally:
        for hook in hooks:
            pool.remove_hook(hook)


async def measure(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Samples of each, taken in turn; which one is first changes from round to round."""
    everything = [make for name, make in INSTRUMENTS.items() if name != "a hook that does nothing"]
    variants: dict[str, Callable[[], list[Hook]]] = {
        NOTHING: list,
        **INSTRUMENTS,
        EVERYTHING: lambda: [hook for make in everything for hook in make()],
    }
    samples: dict[str, list[float]] = {name: [] for name in variants}
    async with Pool(name="cost") as pool:
        await throughput(pool, seconds)
        for index in range(rounds):
            names = list(variants)
            for name in names[index % len(names) :] + names[: index % len(names)]:
                samples[name].append(await watched(pool, variants[name](), seconds))
    return samples


def main() -> None:
    """Measure in turn, print medians and the ratio to no hooks of the same round."""
    parser = argparse.ArgumentParser(prog="python -m experiments.instrumentation_cost")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        samples = runner.run(measure(options.rounds, options.seconds))
    print(f"no-ops per second, {IN_FLIGHT} in flight, {options.loop}, medians of {options.rounds} rounds")
    for name, values in samples.items():
        ratios = [value / base for value, base in zip(values, samples[NOTHING], strict=True)]
        middle = statistics.quantiles(ratios, n=4)
        print(
            f"{statistics.median(values):8,.0f}  {statistics.median(ratios):6.1%}"
            f"  ({middle[0]:.1%} to {middle[2]:.1%})  {name}"
        )


if __name__ == "__main__":
    main()
