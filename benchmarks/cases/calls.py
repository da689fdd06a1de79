"""Cases that call a running, warm pool: latency, throughput and payloads."""

import os
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import limits, tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters, latency_columns
from lifepool.cli.bench.contenders import (
    LIFEPOOL,
    LIMIT,
    POOLS,
    REQUIRES,
    STANDARD,
)
from lifepool.cli.bench.timing import count_calls, running, time_calls
from lifepool.cli.summary import latency_metrics

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


Payload = Callable[[int], Any]
Measure = Callable[[str, Parameters], Coroutine[Any, Any, Outcome]]


def echo_measure(make: Payload) -> Measure:
    """Return a measurement of the round trip of what ``make`` makes of a size in bytes, as argument and result."""

    async def measure(name: str, parameters: Parameters) -> Outcome:
        size = int(parameters["size"])
        if name == LIMIT:
            return _echo_limit(size, parameters)
        payload = make(size)
        return await _payload_latencies(name, parameters, payload, tasks.echo, payload)

    return measure


def argument_measure(make: Payload) -> Measure:
    """Return a measurement of a call with a large argument and a tiny result."""

    async def measure(name: str, parameters: Parameters) -> Outcome:
        payload = make(int(parameters["size"]))
        return await _payload_latencies(name, parameters, len(payload), tasks.size, payload)

    return measure


def result_measure(make: Payload) -> Measure:
    """Return a measurement of a call with a tiny argument and a large result."""

    async def measure(name: str, parameters: Parameters) -> Outcome:
        size = int(parameters["size"])
        make_it = RESULTS[make]
        return await _payload_latencies(name, parameters, make_it(size), make_it, size)

    return measure


async def _payload_latencies(
    name: str, parameters: Parameters, expected: object, fn: Callable[..., Any], *args: Any
) -> Outcome:
    async with running(name, int(parameters["workers"])) as contender:
        if not _same(await contender.run(fn, *args), expected):
            raise RuntimeError(f"{name} did not return the payload that was expected")
        await time_calls(contender, parameters["warmup"], fn, *args)
        return _latencies(await time_calls(contender, parameters["duration"], fn, *args), MILLISECONDS)


def _same(answer: Any, expected: Any) -> bool:
    if type(answer) is not type(expected):
        return False
    if hasattr(answer, "tobytes"):  # an array compares each number by itself
        answer, expected = answer.tobytes(), expected.tobytes()
    return bool(answer == expected)


def _echo_limit(size: int, parameters: Parameters) -> Outcome:
    outcome = _latencies(limits.shared_memory_echo(size, parameters["duration"], parameters["warmup"]), MILLISECONDS)
    copies = limits.memory_copy(size, parameters["warmup"])
    one_copy = latency_metrics(copies, MILLISECONDS)["p50"]
    return Outcome(outcome.metrics, {**outcome.detail, "one memcpy, p50 ms": one_copy})


def _latencies(seconds: list[float], scale: float) -> Outcome:
    return Outcome(latency_metrics(seconds, scale), {"calls": len(seconds)})


def latency_case() -> Case:
    """Return the no-op latency case."""
    return Case(
        name="latency",
        title="no-op round trip, 1 in flight",
        metrics=latency_columns("µs"),
        contenders=(*POOLS, LIMIT),
        quick_contenders=(*QUICK_POOLS, LIMIT),
        measure=measure_latency,
        rounds=9,  # a round trip is several times shorter when both ends happen to share a CPU
        default=("asyncio", "uvloop"),
        full=FULL,
        quick=QUICK,
        requires=REQUIRES,
    )


def throughput_case(in_flight: int, default: tuple[str, ...] = ()) -> Case:
    """Return the no-op throughput case with ``in_flight`` concurrent callers."""
    return Case(
        name=f"throughput-{in_flight}",
        title=f"no-op throughput, {in_flight} in flight",
        metrics=(Metric("rate", "tasks/s", "higher"),),
        contenders=POOLS,
        quick_contenders=QUICK_POOLS,
        measure=measure_throughput,
        default=default,
        rounds=5 if default else 3,
        full={**FULL, "in_flight": in_flight},
        quick={**QUICK, "in_flight": in_flight},
        requires=REQUIRES,
    )


DIRECTIONS: dict[str, tuple[str, Callable[[Payload], Measure], tuple[str, ...]]] = {
    "echo": ("as argument and result", echo_measure, (*POOLS, LIMIT)),
    "in": ("as argument", argument_measure, POOLS),
    "out": ("as result", result_measure, POOLS),
}
"""Name, words for the table, measurement, contenders."""


def payload_case(direction: str, size: str, kind: str, default: tuple[str, ...] = ()) -> Case:
    """Return the case of one large object per call.

    Args:
        direction: one of ``DIRECTIONS``.
        size: one of ``SIZES``.
        kind: one of ``KINDS``.
        default: event loops on which it is in a run that names no cases.
    """
    words, measure_of, contenders = DIRECTIONS[direction]
    suffix = "" if kind == "bytes" else f"-{kind}"
    return Case(
        name=f"{direction}-{size}{suffix}",
        title=f"{size} of {kind} {words}, 1 in flight",
        metrics=latency_columns("ms"),
        contenders=contenders,
        quick_contenders=tuple(c for c in contenders if c in (*QUICK_POOLS, LIMIT)),
        measure=measure_of(KINDS[kind]),
        full={**FULL, "size": SIZES[size]},
        quick={**QUICK, "size": SIZES[size]},
        requires=REQUIRES,
        default=default,
        rounds=5 if default else 3,
        timeout=90.0,
    )


def random_text(size: int) -> str:
    """Return ``size`` random ASCII characters."""
    return os.urandom(size // 2).hex()


def random_bytearray(size: int) -> bytearray:
    """Return ``size`` random bytes that can be changed."""
    return bytearray(os.urandom(size))


def random_array(size: int) -> Any:
    """Return a numpy array of ``size`` random bytes."""
    import numpy

    return numpy.frombuffer(os.urandom(size), dtype=numpy.uint8).copy()


KINDS: dict[str, Payload] = {
    "bytes": os.urandom,
    "str": random_text,
    "bytearray": random_bytearray,
    "numpy": random_array,
}

RESULTS: dict[Payload, Callable[[int], Any]] = {
    os.urandom: tasks.filled,
    random_text: tasks.filled_text,
    random_bytearray: tasks.filled_bytearray,
    random_array: tasks.filled_array,
}
"""What a worker makes where the server would make the key: quick, so that the payload's way is what is measured."""

SIZES = {
    "1KiB": KIBIBYTE,
    "64KiB": 64 * KIBIBYTE,
    "1MiB": MEBIBYTE,
    "16MiB": 16 * MEBIBYTE,
    "64MiB": 64 * MEBIBYTE,
}

_DEFAULT = {("echo", "1MiB", "bytes"), ("echo", "16MiB", "bytes")}


def payload_cases() -> tuple[Case, ...]:
    """Return the cases of every direction, size and kind."""
    return tuple(
        payload_case(direction, size, kind, ("asyncio",) if (direction, size, kind) in _DEFAULT else ())
        for direction in DIRECTIONS
        for size in SIZES
        for kind in KINDS
    )
