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
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from benchmarks.tasks import noop
from lifepool import Pool
from lifepool.cli.bench.cases import loop_factory
from lifepool.dashboard.recorder import Recorder
from lifepool.hooks import Hook, TaskRecord
from lifepool.instrumentation.logging import ForwardLogs
from lifepool.instrumentation.loop import LoopWatch
from lifepool.instrumentation.opentelemetry import OpenTelemetryHook
from lifepool.instrumentation.prometheus import PrometheusHook
from lifepool.instrumentation.slow import SlowTasks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

IN_FLIGHT = 64
NOTHING = "no hooks"
EVERYTHING = "all of them"


class Bare(Hook):
    """A hook that does nothing with each task: what the records alone cost."""

    def task_settled(self, task: TaskRecord) -> None:
        """Do nothing."""


#: The first one is no instrument: it is left out of "all of them".
INSTRUMENTS: dict[str, Callable[[], Hook]] = {
    "a hook that does nothing": Bare,
    "PrometheusHook": lambda: PrometheusHook(CollectorRegistry()),
    "LoopWatch": LoopWatch,
    "SlowTasks": SlowTasks,
    "ForwardLogs": ForwardLogs,
    "OpenTelemetryHook": OpenTelemetryHook,
    "the live page": Recorder,
}


@dataclass(frozen=True)
class Sample:
    """What no-ops take.

    Attributes:
        rate: How many were done in a second.
        cpu_us: CPU time of the server process for each, in microseconds.
    """

    rate: float
    cpu_us: float


async def throughput(pool: Pool, seconds: float) -> Sample:
    """Run no-ops for so many seconds."""
    done = 0
    end = perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while perf_counter() < end:
            await pool.run(noop)
            done += 1

    began, cpu = perf_counter(), process_time()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return Sample(done / (perf_counter() - began), (process_time() - cpu) / done * 1e6)


async def watched(pool: Pool, hooks: Sequence[Hook], seconds: float) -> Sample:
    """Measure the throughput with these hooks."""
    for hook in hooks:
        pool.add_hook(hook)
    try:
        return await throughput(pool, seconds)
    finally:
        for hook in hooks:
            pool.remove_hook(hook)


async def measure(rounds: int, seconds: float) -> dict[str, list[Sample]]:
    """Take samples of each in turn; which one is first changes from round to round."""
    _, *instruments = INSTRUMENTS.values()
    variants = {NOTHING: [], **{name: [make] for name, make in INSTRUMENTS.items()}, EVERYTHING: instruments}
    samples: dict[str, list[Sample]] = {name: [] for name in variants}
    async with Pool(name="cost") as pool:
        await throughput(pool, seconds)
        for index in range(rounds):
            names = list(variants)
            for name in names[index % len(names) :] + names[: index % len(names)]:
                samples[name].append(await watched(pool, [make() for make in variants[name]], seconds))
    return samples


def main() -> None:
    """Measure in turn, print medians and the ratio to no hooks of the same round."""
    parser = argparse.ArgumentParser(prog="python -m experiments.instrumentation_cost")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.25)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        samples = runner.run(measure(options.rounds, options.seconds))
    print(f"no-ops, {IN_FLIGHT} in flight, {options.loop}, medians of {options.rounds} rounds")
    print("per second  of none (middle half)         CPU µs each")
    for name, values in samples.items():
        ratios = [value.rate / base.rate for value, base in zip(values, samples[NOTHING], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rate, cpu = statistics.median(v.rate for v in values), statistics.median(v.cpu_us for v in values)
        print(f"{rate:10,.0f}  {middle:7.1%} ({low:6.1%} to {high:6.1%})  {cpu:6.1f}  {name}")


if __name__ == "__main__":
    main()
