"""A service under more requests than its pool can do: how many are answered in time, and does ``/health`` still answer?

First the capacity is measured with a few clients that ask again as soon as they are answered, and ``/health`` while
nothing else is asked. Then requests arrive at a multiple of the capacity; each uses the CPU for 20 ms, and its client
goes after 400 ms. Both services give up on a request by then: lifepool by ``timeout``, the other by
``asyncio.wait_for``.
"""

import asyncio
import time

from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from benchmarks.cases.service import HEALTH, SERVER_PACKAGES, serving, with_lost
from benchmarks.client import Client, Response
from benchmarks.load import Stream
from benchmarks.services import LIFEPOOL, LONG_LIVED, PATIENCE_S
from lifepool.cli.summary import latency_metrics

WORK = b"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
BOUND = 5.0  # seconds for one request while the capacity is measured
PERCENT, MILLISECONDS = 100.0, 1e3


def is_right(_: int, response: Response) -> bool:
    """Tell whether the request was served."""
    return response.status == 200


async def capacity_of(client: Client, duration: float, in_flight: int) -> float:
    """Return requests per second while callers ask again and again."""
    done, start = 0, time.perf_counter()
    end = start + duration

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            response = await client.send(WORK, BOUND)
            done += is_right(0, response)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return done / (time.perf_counter() - start)


async def measure_service_overload(variant: str, parameters: Parameters) -> Outcome:
    """Measure one server at ``factor`` times its capacity."""
    workers, duration = int(parameters["workers"]), parameters["duration"]
    async with serving(variant, workers) as client:
        await capacity_of(client, parameters["warmup"], 2 * workers)
        idle = await _probes(parameters, parameters["idle_duration"]).play(client)
        capacity = await capacity_of(client, parameters["warmup"], 2 * workers)
        load = Stream([WORK], is_right, parameters["factor"] * capacity, duration, PATIENCE_S)
        work, health = await asyncio.gather(load.play(client), _probes(parameters, duration).play(client))
    calm = latency_metrics(with_lost(idle, PATIENCE_S), MILLISECONDS)["p99"]
    busy = latency_metrics(with_lost(health, PATIENCE_S), MILLISECONDS)["p99"]
    return Outcome(
        {
            "goodput": PERCENT * len(work.latencies) / duration / capacity,
            "health p99": busy,
            "health p99 / idle": busy / calm,
            "p99": latency_metrics(work.latencies, MILLISECONDS)["p99"]
            if work.latencies
            else MILLISECONDS * PATIENCE_S,
        },
        {
            "capacity": capacity,
            "requests": work.sent,
            "errors": work.errors,
            "health errors": health.errors,
            "idle health p99 ms": calm,
            "generator late, p99 ms": latency_metrics(work.late, MILLISECONDS)["p99"],
        },
    )


def _probes(parameters: Parameters, duration: float) -> Stream:
    return Stream([HEALTH], is_right, parameters["health_rate"], duration, PATIENCE_S)


def service_overload_case(factor: int) -> Case:
    """Return the case of ``factor`` times the capacity."""
    return Case(
        name=f"service-overload-{factor}x",
        title=f"service at {factor} times its capacity, 20 ms of CPU a request, answers within 400 ms",
        metrics=(
            Metric("goodput", "%", "higher"),
            Metric("health p99", "ms"),
            Metric("health p99 / idle", "x"),
            Metric("p99", "ms"),
        ),
        contenders=(LIFEPOOL, LONG_LIVED),
        quick_contenders=(LIFEPOOL, LONG_LIVED),
        measure=measure_service_overload,
        full={"factor": factor, "duration": 6.0, "idle_duration": 3.0, "warmup": 1.5, "health_rate": 37},
        quick={"factor": factor, "duration": 0.4, "idle_duration": 0.3, "warmup": 0.2, "health_rate": 37},
        requires={LIFEPOOL: (*SERVER_PACKAGES, "lifepool"), LONG_LIVED: SERVER_PACKAGES},
        rounds=3,
        timeout=120.0,
    )
