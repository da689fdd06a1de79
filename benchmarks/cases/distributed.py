"""The pool cases once more, against Dask, Ray and Celery on one machine. Only run when asked for by name."""

import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters, latency_columns
from benchmarks.distributed.servers import rabbitmq_program
from lifepool.cli.bench.contenders import Contender
from lifepool.cli.bench.timing import count_calls, started, time_calls
from lifepool.cli.summary import latency_metrics

MILLISECONDS = 1e3
MEBIBYTE = 1 << 20
REQUIRES = {
    "dask": ("distributed",),
    "lifepool-dask": ("distributed",),
    "ray": ("ray",),
    "lifepool-ray": ("ray",),
    "celery": ("celery", "redis"),
    "lifepool-celery": ("celery", "redis"),
    "lifepool-rabbitmq": ("celery", "redis"),
}
NAMES: tuple[str, ...] = (
    "lifepool", "standard", "dask", "lifepool-dask", "ray", "lifepool-ray", "celery", "lifepool-celery",
)  # fmt: skip
if rabbitmq_program():  # it is large: no package of Python brings it along
    NAMES += ("lifepool-rabbitmq",)
Measured = Callable[[Contender, Parameters], Coroutine[Any, Any, Outcome]]


def on_cluster(measured: Measured) -> Callable[[str, Parameters], Coroutine[Any, Any, Outcome]]:
    """Return a measurement on a cluster that is started for it and ended after it."""

    async def measure(name: str, parameters: Parameters) -> Outcome:
        from benchmarks.distributed.contenders import CONTENDERS

        async with started(CONTENDERS[name](int(parameters["workers"]))) as contender:
            return await measured(contender, parameters)

    return measure


async def _latency(contender: Contender, parameters: Parameters) -> Outcome:
    await time_calls(contender, parameters["warmup"], tasks.noop)
    samples = await time_calls(contender, parameters["duration"], tasks.noop)
    return Outcome(latency_metrics(samples, MILLISECONDS), {"calls": len(samples)})


async def _throughput(contender: Contender, parameters: Parameters) -> Outcome:
    await count_calls(contender, parameters["warmup"], int(parameters["in_flight"]))
    return Outcome({"rate": await count_calls(contender, parameters["duration"], int(parameters["in_flight"]))})


async def _echo(contender: Contender, parameters: Parameters) -> Outcome:
    payload = os.urandom(int(parameters["size"]))
    if await contender.run(tasks.echo, payload) != payload:
        raise RuntimeError("not the payload that was sent")
    await time_calls(contender, parameters["warmup"], tasks.echo, payload)
    samples = await time_calls(contender, parameters["duration"], tasks.echo, payload)
    return Outcome(latency_metrics(samples, MILLISECONDS), {"calls": len(samples)})


async def measure_start(name: str, parameters: Parameters) -> Outcome:
    """Measure from nothing to the first answer, and to the end of everything."""
    from benchmarks.distributed.contenders import CONTENDERS

    contender = CONTENDERS[name](int(parameters["workers"]))
    begin = time.perf_counter()
    await contender.start()
    try:
        await contender.run(tasks.noop)
        answered = time.perf_counter()
    finally:
        await contender.close()
    closed = time.perf_counter()
    return Outcome({"first answer": answered - begin, "close": closed - answered})


def _case(
    name: str,
    title: str,
    metrics: tuple[Metric, ...],
    measure: Callable[[str, Parameters], Coroutine[Any, Any, Outcome]],
    parameters: Parameters,
) -> Case:
    return Case(
        name=f"distributed-{name}",
        title=f"{title}, clusters on one machine",
        metrics=metrics,
        contenders=NAMES,
        quick_contenders=NAMES,
        measure=measure,
        full={"duration": 2.0, "warmup": 1.0, **parameters},
        quick={"duration": 0.1, "warmup": 0.05, **parameters},
        requires=REQUIRES,
        opt_in=True,
        rounds=3,
        timeout=120.0,
    )


def distributed_cases() -> tuple[Case, ...]:
    """Return the cases."""
    return (
        _case("latency", "no-op round trip, 1 in flight", latency_columns("ms"), on_cluster(_latency), {}),
        _case(
            "throughput-64",
            "no-op throughput, 64 in flight",
            (Metric("rate", "tasks/s", "higher"),),
            on_cluster(_throughput),
            {"in_flight": 64},
        ),
        _case("echo-1MiB", "1 MiB of bytes echoed", latency_columns("ms"), on_cluster(_echo), {"size": MEBIBYTE}),
        _case("start", "from nothing to the first answer", (Metric("first answer", "s"), Metric("close", "s")),
              measure_start, {}),
    )  # fmt: skip
