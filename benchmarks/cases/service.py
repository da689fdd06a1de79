"""The service case: real servers under requests at a fixed rate, from the client's side."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.cases.base import Case, Metric, Outcome, Parameters, latency_columns
from benchmarks.client import Client, Response, get, post_json
from benchmarks.load import Record, Stream
from benchmarks.services import LIFEPOOL, LONG_LIVED, PER_REQUEST, VARIANTS
from benchmarks.texts import make_texts
from lifepool.cli.processes import end_leader
from lifepool.cli.summary import latency_metrics

START_BOUND = 30.0  # seconds for imports and workers, until /health answers
END_BOUND = 10.0  # seconds; more than the server's own drain bound
MILLISECONDS = 1e3
WARM_ROUNDS = 3
HEALTH = get("/health")
SERVER_PACKAGES = ("fastapi", "uvicorn", "examples.domains.extract")

FULL: Parameters = {
    "rate": 100,
    "duration": 10,
    "idle_duration": 4,
    # Shares no factor with the rate: at 20 every probe would leave together with a request, and be
    # served after it; at 19 the probes meet every moment between two requests.
    "health_rate": 19,
    "timeout": 10,
    "texts": 8,
    "text_size": 20_000,
}
QUICK: Parameters = {**FULL, "rate": 10, "duration": 0.5, "idle_duration": 0.3, "timeout": 5}


async def measure_service(variant: str, parameters: Parameters) -> Outcome:
    """Measure one server: /health while idle, then both routes under load."""
    async with serving(variant, int(parameters["workers"])) as client:
        work = await _work_stream(client, parameters)
        idle = await _health_stream(parameters, parameters["idle_duration"]).play(client)
        under_load = _health_stream(parameters, parameters["duration"])
        loaded, health = await asyncio.gather(work.play(client), under_load.play(client))
    return _outcome(loaded, idle, health, parameters["timeout"])


@asynccontextmanager
async def serving(variant: str, workers: int) -> AsyncIterator[Client]:
    """Start a server in a process group of its own, yield a client of it, and end the group."""
    from examples.domains.listening import listen  # needs uvicorn, which other cases do without

    with listen("127.0.0.1", 0) as listener:
        process = start_server(variant, workers, listener)
        client = Client(*listener.getsockname()[:2])
    try:
        await client.send(HEALTH, START_BOUND)
        yield client
    finally:
        client.close()
        await asyncio.to_thread(end_leader, process, END_BOUND)
        if process.stdin is not None:
            process.stdin.close()


def start_server(variant: str, workers: int, listener: socket.socket) -> subprocess.Popen[bytes]:
    """Start a server on the running loop's kind of loop; it ends when its ``stdin`` closes."""
    loop = "uvloop" if "uvloop" in type(asyncio.get_running_loop()).__module__ else "asyncio"
    command = [sys.executable, "-m", "benchmarks.services", "--variant", variant]
    command += ["--workers", str(workers), "--loop", loop, "--socket", str(listener.fileno())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], process_group=0)


async def _work_stream(client: Client, parameters: Parameters) -> Stream:
    """Return the load, after asking for each answer once or more so that the server is warm."""
    from examples.domains.extract import find_domains

    texts = make_texts(int(parameters["texts"]), int(parameters["text_size"]))
    expected = [find_domains(text) for text in texts]
    requests = [post_json("/addContent", {"data": text}) for text in texts]

    def is_right(index: int, response: Response) -> bool:
        if response.status != 200:
            return False
        return bool(json.loads(response.body)["domains_found"] == expected[index])

    for _ in range(WARM_ROUNDS):
        for index, request in enumerate(requests):
            response = await client.send(request, parameters["timeout"])
            if not is_right(index, response):
                raise RuntimeError(f"wrong answer while warming up: {response}")
    return Stream(requests, is_right, parameters["rate"], parameters["duration"], parameters["timeout"])


def _health_stream(parameters: Parameters, duration: float) -> Stream:
    def is_right(_: int, response: Response) -> bool:
        return response.status == 200

    return Stream([HEALTH], is_right, parameters["health_rate"], duration, parameters["timeout"])


def _outcome(work: Record, idle: Record, health: Record, timeout: float) -> Outcome:
    latencies = with_lost(work, timeout)
    calm = latency_metrics(with_lost(idle, timeout), MILLISECONDS)
    busy = latency_metrics(with_lost(health, timeout), MILLISECONDS)
    metrics = latency_metrics(latencies, MILLISECONDS)
    metrics["lost"] = 100 * sum(work.errors.values()) / work.sent
    for quantile in ("p50", "p99"):
        metrics[f"health {quantile}"] = busy[quantile]
        metrics[f"health {quantile} / idle"] = busy[quantile] / calm[quantile]
    return Outcome(
        metrics,
        {
            "requests": work.sent,
            "errors": work.errors,
            "health errors": health.errors,
            "idle health ms": calm,
            "generator late, p99 ms": latency_metrics(work.late, MILLISECONDS)["p99"],
        },
    )


def with_lost(record: Record, timeout: float) -> list[float]:
    """Return the latencies, with a failed request as ``timeout`` seconds: it took at least that.

    Left out, the requests that a collapsing server loses would make its percentiles look better.
    """
    return record.latencies + [timeout] * sum(record.errors.values())


def service_case() -> Case:
    """Return the service case."""
    packages = SERVER_PACKAGES
    return Case(
        name="service",
        title="service end to end, 20 kB texts at a fixed rate",
        metrics=(
            Metric("p99", "ms"),
            *(metric for metric in latency_columns("ms") if metric.name != "p99"),
            Metric("lost", "%"),
            Metric("health p50", "ms"),
            Metric("health p50 / idle", "x"),
            Metric("health p99", "ms"),
            Metric("health p99 / idle", "x"),
        ),
        contenders=tuple(VARIANTS),
        quick_contenders=tuple(VARIANTS),
        measure=measure_service,
        full=FULL,
        quick=QUICK,
        requires={
            LIFEPOOL: (*packages, "lifepool"),
            LONG_LIVED: packages,
            PER_REQUEST: packages,
        },
        default=("asyncio",),
        rounds=3,
        timeout=120.0,
    )
