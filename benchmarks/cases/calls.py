"""Cases that call a running, warm pool: latency, throughput and payloads."""

import os
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import limits, tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters, latency_columns
from lifepool.commands.bench.calls import count_calls, running, time_calls
from lifepool.commands.bench.contenders import (
    LIFEPOOL,
    LIMIT,
    POOLS,
    REQUIRES,
    STANDARD,
)
from lifepool.commands.summary import distribution, latency_metrics

MICROSECONDS = 1e6
MILLISECONDS = 1e3
KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20

FULL: Parameters = {"duration": 0.8, "warmup": 0.3}
QUICK: Parameters = {"duration": 0.05, "warmup": 0.02}
QUICK_POOLS = (LIFEPOOL, STANDARD)


async def measure_latency(name: str, parameters: Parameters) -> Outcome:
    """Measure the round trip of a no-op with nothing else in flight."""
    duration, warmup = parameters["duration"], parameters["warmup"]
    if name == LIMIT:
        samples = limits.ping_pong(duration, warmup)
    else:
        async with running(name, int(parameters["workers"])) as contender:
            await time_calls(contender, warmup, tasks.noop)
            samples = await time_calls(contender, duration, tasks.noop)
    return _latencies(samples, MICROSECONDS)


async def measure_throughput(name: str, parameters: Parameters) -> Outcome:
    """Measure no-ops per second with a fixed number in flight."""
    in_flight = int(parameters["in_flight"])
    async with running(name, int(parameters["workers"])) as contender:
        await count_calls(contender, parameters["warmup"], in_flight)
        rate = await count_calls(contender, parameters["duration"], in_flight)
    return Outcome({"rate": rate})


def echo_measure(make: Callable[[int], Any]) -> Callable[[str, Parameters], Coroutine[Any, Any, Outcome]]:
    """Return a measurement of the round trip of what ``make`` makes of a size in bytes, as argument and result."""

    async def measure(name: str, parameters: Parameters) -> Outcome:
        size = int(parameters["size"])
        if name == LIMIT:
            return _echo_limit(size, parameters)
        payload = make(size)
        return await _payload_latencies(name, parameters, payload, tasks.echo, payload)

    return measure


async def measure_argument(name: str, parameters: Parameters) -> Outcome:
    """Measure the round trip of a call with a large argument and a tiny result."""
    size = int(parameters["size"])
    return await _payload_latencies(name, parameters, size, tasks.size, os.urandom(size))


async def measure_result(name: str, parameters: Parameters) -> Outcome:
    """Measure the round trip of a call with a tiny argument and a large result."""
    size = int(parameters["size"])
    return await _payload_latencies(name, parameters, tasks.filled(size), tasks.filled, size)


async def _payload_latencies(
    name: str, parameters: Parameters, expected: object, fn: Callable[..., Any], *args: Any
) -> Outcome:
    async with running(name, int(parameters["workers"])) as contender:
        if await contender.run(fn, *args) != expected:
            raise RuntimeError(f"{name} did not return the payload that was expected")
        await time_calls(contender, parameters["warmup"], fn, *args)
        return _latencies(await time_calls(contender, parameters["duration"], fn, *args), MILLISECONDS)


def _echo_limit(size: int, parameters: Parameters) -> Outcome:
    outcome = _latencies(limits.shared_memory_echo(size, parameters["duration"], parameters["warmup"]), MILLISECONDS)
    copies = limits.memory_copy(size, parameters["warmup"])
    one_copy = latency_metrics(copies, MILLISECONDS)["p50"]
    return Outcome(outcome.metrics, {**outcome.detail, "one memcpy, p50 ms": one_copy})


def _latencies(seconds: list[float], scale: float) -> Outcome:
    scaled = distribution([value * scale for value in seconds])
    return Outcome(latency_metrics(seconds, scale), {"calls": len(seconds), "quantiles": scaled})


def latency_case() -> Case:
    """Return the no-op latency case."""
    return Case(
        name="latency",
        title="no-op round trip, 1 in flight",
        metrics=latency_columns("µs"),
        contenders=(*POOLS, LIMIT),
        quick_contenders=(*QUICK_POOLS, LIMIT),
        measure=measure_latency,
        rounds=15,  # a round trip is several times shorter when both ends happen to share a CPU
        full=FULL,
        quick=QUICK,
        requires=REQUIRES,
    )


def throughput_case(in_flight: int) -> Case:
    """Return the no-op throughput case with ``in_flight`` concurrent callers."""
    return Case(
        name=f"throughput-{in_flight}",
        title=f"no-op throughput, {in_flight} in flight",
        metrics=(Metric("rate", "tasks/s", "higher"),),
        contenders=POOLS,
        quick_contenders=QUICK_POOLS,
        measure=measure_throughput,
        full={**FULL, "in_flight": in_flight},
        quick={**QUICK, "in_flight": in_flight},
        requires=REQUIRES,
    )


def echo_case(name: str, size: int, kind: str = "bytes", make: Callable[[int], Any] = os.urandom) -> Case:
    """Return the case that echoes ``size`` random bytes, or what ``make`` makes of that size."""
    suffix = "" if kind == "bytes" else f"-{kind}"
    title = f"{name} of {kind} echoed, 1 in flight"
    return _payload_case(f"echo-{name}{suffix}", title, size, echo_measure(make), (*POOLS, LIMIT))


def argument_case(name: str, size: int) -> Case:
    """Return the case with ``size`` random bytes as the argument."""
    return _payload_case(f"in-{name}", f"{name} of bytes as argument, 1 in flight", size, measure_argument, POOLS)


def result_case(name: str, size: int) -> Case:
    """Return the case with ``size`` bytes as the result."""
    return _payload_case(f"out-{name}", f"{name} of bytes as result, 1 in flight", size, measure_result, POOLS)


def _payload_case(
    name: str,
    title: str,
    size: int,
    measure: Callable[[str, Parameters], Coroutine[Any, Any, Outcome]],
    contenders: tuple[str, ...],
) -> Case:
    return Case(
        name=name,
        title=title,
        metrics=latency_columns("ms"),
        contenders=contenders,
        quick_contenders=tuple(c for c in contenders if c in (*QUICK_POOLS, LIMIT)),
        measure=measure,
        full={**FULL, "size": size},
        quick={**QUICK, "size": size},
        requires=REQUIRES,
    )


def random_text(size: int) -> str:
    """Return ``size`` random ASCII characters."""
    return os.urandom(size // 2).hex()


def random_bytearray(size: int) -> bytearray:
    """Return ``size`` random bytes that can be changed."""
    return bytearray(os.urandom(size))
