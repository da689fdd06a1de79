"""How late is the event loop while the pool has more to do than it can?"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from lifepool.cli.bench.contenders import LIFEPOOL, LIMIT, POOLS, REQUIRES, Contender
from lifepool.cli.bench.timing import running
from lifepool.cli.summary import latency_metrics

TICK_S = 0.005
MILLISECONDS = 1e3
Arguments = Callable[[Parameters], tuple[Any, ...]]


@asynccontextmanager
async def lag_metered() -> AsyncIterator[list[float]]:
    """Collect how many seconds late the event loop is, each few milliseconds."""
    lags: list[float] = []

    async def measure() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK_S)
            lags.append(time.perf_counter() - before - TICK_S)

    meter = asyncio.ensure_future(measure())
    try:
        yield lags
    finally:
        meter.cancel()
        await asyncio.wait([meter])


async def _keep_busy(contender: Contender, parameters: Parameters, duration: float, call: tuple[Any, ...]) -> int:
    """Have ``in_flight`` callers call again and again; return how many tasks were done."""
    done, end = 0, time.perf_counter() + duration

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await contender.run(*call)
            done += 1

    await asyncio.gather(*(caller() for _ in range(int(parameters["in_flight"]))))
    return done


def lag_measure(call_of: Arguments) -> Callable[[str, Parameters], Any]:
    """Return a measurement of the loop's lag while callers make the call that ``call_of`` gives."""

    async def measure(name: str, parameters: Parameters) -> Outcome:
        if name == LIMIT:
            async with lag_metered() as lags:
                await asyncio.sleep(parameters["duration"])
            return Outcome(latency_metrics(lags, MILLISECONDS), {"ticks": len(lags)})
        call = call_of(parameters)
        async with running(name, int(parameters["workers"])) as contender:
            await _keep_busy(contender, parameters, parameters["warmup"], call)
            async with lag_metered() as lags:
                done = await _keep_busy(contender, parameters, parameters["duration"], call)
        return Outcome(latency_metrics(lags, MILLISECONDS), {"ticks": len(lags), "tasks": done})

    return measure


def _lag_case(name: str, title: str, call_of: Arguments, parameters: Parameters, *, default: bool) -> Case:
    return Case(
        name=name,
        title=title,
        metrics=tuple(Metric(metric, "ms") for metric in ("p99", "p50", "p90", "max")),
        contenders=(*POOLS, LIMIT),
        quick_contenders=(LIFEPOOL, LIMIT),
        measure=lag_measure(call_of),
        full={"duration": 2.0, "warmup": 0.3, **parameters},
        quick={"duration": 0.1, "warmup": 0.02, **parameters},
        requires=REQUIRES,
        default=("asyncio",) if default else (),
        rounds=3,
        timeout=90.0,
    )


def lag_cases() -> tuple[Case, ...]:
    """Return the cases: workers that always have work, a loop that always has answers to read, big payloads."""

    def burn(parameters: Parameters) -> tuple[Any, ...]:
        return (tasks.burn, parameters["length"])

    def echo(parameters: Parameters) -> tuple[Any, ...]:
        return (tasks.echo, bytes(int(parameters["size"])))

    return (
        _lag_case(
            "loop-lag",
            "lag of the event loop, workers saturated with tasks of 1 ms, 64 in flight",
            burn,
            {"length": 0.001, "in_flight": 64},
            default=True,
        ),
        _lag_case(
            "loop-lag-noop",
            "lag of the event loop, saturated with no-ops, 64 in flight",
            lambda _: (tasks.noop,),
            {"in_flight": 64},
            default=True,
        ),
        _lag_case(
            "loop-lag-64MiB",
            "lag of the event loop, 64 MiB echoed again and again",
            echo,
            {"size": 64 << 20, "in_flight": 1},
            default=False,
        ),
    )
