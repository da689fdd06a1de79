"""How long it takes until callers hear of what went wrong on a cluster, and until its slots are free again.

    .venv-distributed/bin/python -m tests.cluster.bounds celery+redis --deaths 100

Each figure is measured on real servers and nodes on loopback; on a machine that does nothing else. It prints a table of
the smallest, the median, the 99th percentile and the largest of each, in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lifepool import BackendUnavailable, Pool, TaskTimeout, WorkerLost
from tests import tasks
from tests.cluster.conftest import ENGINES
from tests.cluster.death import die_and_say_when
from tests.cluster.leaving_client import ask_and_leave
from tests.cluster.servers import works_again
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from tests.cluster.servers import Harness

HOLDS = {
    "a Python loop": tasks.hold_in_python,
    "a call of C": tasks.hold_in_c,
    "what ignores signals": tasks.hold_stubbornly,
}
TIMEOUT_S = 1.0

Figures = dict[str, list[float]]


async def timeouts(pool: Pool, times: int, figures: Figures) -> None:
    """Time out, on the only slot there is."""
    for name, hold in HOLDS.items():
        for _ in range(times):
            with Gate() as gate:  # one for each: what ignores signals announces itself again
                began = time.monotonic()
                held = pool.submit(hold, gate.address, timeout=TIMEOUT_S)
                await gate.arrival()
                with contextlib.suppress(TaskTimeout):
                    await held
                freed = time.monotonic()
                await pool.run(tasks.double, 2)
            figures[f"timeout of {name}: its caller is freed after it by"].append(freed - began - TIMEOUT_S)
            figures[f"timeout of {name}: the next task is answered"].append(time.monotonic() - freed)


async def cancellations(pool: Pool, times: int, figures: Figures) -> None:
    """Cancel, on the only slot there is."""
    for name, hold in HOLDS.items():
        for _ in range(times):
            with Gate() as gate:
                held = pool.submit(hold, gate.address)
                await gate.arrival()
                began = time.monotonic()
                held.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await held
                freed = time.monotonic()
                await pool.run(tasks.double, 2)
            figures[f"cancellation of {name}: its caller is freed"].append(freed - began)
            figures[f"cancellation of {name}: the next task is answered"].append(time.monotonic() - began)


async def disconnects(pool: Pool, times: int, figures: Figures) -> None:
    """Disconnect from a request, on the only slot there is."""
    from fastapi import FastAPI

    from lifepool.integrations.fastapi import install

    app = FastAPI()
    held: list[Any] = []
    install(app, pool)

    @app.get("/held")
    async def run() -> None:
        await pool.run(*held)

    for name, hold in HOLDS.items():
        for _ in range(times):
            with Gate() as gate:
                held[:] = [hold, gate.address]
                gone = asyncio.Event()
                request = asyncio.create_task(ask_and_leave(app, "/held", gone))
                await gate.arrival()
                began = time.monotonic()
                gone.set()
                await request
                ended = time.monotonic()
                await pool.run(tasks.double, 2)
            figures[f"disconnect from {name}: its request ends"].append(ended - began)
            figures[f"disconnect from {name}: the next task is answered"].append(time.monotonic() - began)


async def deaths(pool: Pool, gate: Gate, times: int, folder: Path, figures: Figures) -> None:
    """Kill workers one after another, while a task runs beside them in the other one."""
    other = pool.submit(tasks.hold, gate.address, "stays")
    visitor = await gate.arrival()
    path = folder / "died"
    for _ in range(times):
        path.unlink(missing_ok=True)
        with contextlib.suppress(WorkerLost):
            await pool.run(die_and_say_when, str(path))
        figures["a worker is killed: its caller hears of it"].append(time.monotonic() - float(path.read_text()))
    visitor.let_through()
    assert await other == "stays"
    assert (pool.statistics().lost, pool.statistics().completed) == (times, 1)


async def nodes_killed(harness: Harness, gate: Gate, times: int, figures: Figures) -> None:
    """Kill nodes."""
    node = await asyncio.to_thread(harness.start_node)
    async with Pool(backend=harness.url) as pool:
        for _ in range(times):
            await works_again(pool)
            held = pool.submit(tasks.hold, gate.address)
            await gate.arrival()
            await asyncio.sleep(1.0)  # nodes announce themselves each half second
            began = time.monotonic()
            killing = asyncio.create_task(asyncio.to_thread(node.kill))
            with contextlib.suppress(WorkerLost):
                await held
            figures["a node is killed: its caller hears of it"].append(time.monotonic() - began)
            await killing
            node = await asyncio.to_thread(harness.start_node)


async def server_killed(harness: Harness, times: int, figures: Figures) -> None:
    """Kill the broker, or what the engine has in its place."""
    async with Pool(backend=harness.url) as pool:
        for _ in range(times):
            await works_again(pool)
            began = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(harness.stop_server))
            try:
                while True:
                    asked = time.monotonic()
                    try:
                        await pool.run(tasks.double, 1, timeout=10.0)
                    except (WorkerLost, TaskTimeout):
                        figures["the server is killed: a call got another end"].append(time.monotonic() - asked)
            except BackendUnavailable:
                figures["the server is killed: a new call is refused"].append(time.monotonic() - asked)
                figures["the server is killed: from then on calls are refused"].append(time.monotonic() - began)
            await stopping
            await asyncio.to_thread(harness.start_server)
            back = time.monotonic()
            await works_again(pool)
            figures["the server is back: a call is answered"].append(time.monotonic() - back)


class Request:
    """What the engines of the tests take of pytest's."""

    def getfixturevalue(self, name: str) -> object:
        assert name == "redis_program"
        return shutil.which("redis-server") or shutil.which("redis-check-rdb")


@contextlib.contextmanager
def engine(name: str, folder: Path) -> Iterator[Harness]:
    with ENGINES[name](cast("pytest.FixtureRequest", Request()), folder, shared=False) as harness:
        yield harness


async def measure(name: str, options: argparse.Namespace, figures: Figures) -> None:
    with tempfile.TemporaryDirectory(prefix="b-") as folder, engine(name, Path(folder)) as harness, Gate() as gate:
        await on_one_slot(harness, options.times, figures)
        if options.deaths:
            await asyncio.to_thread(harness.start_node, 2)
            async with Pool(backend=harness.url) as pool:
                await deaths(pool, gate, options.deaths, Path(folder), figures)
    if options.faults:
        with tempfile.TemporaryDirectory(prefix="b-") as folder, engine(name, Path(folder)) as harness, Gate() as gate:
            await nodes_killed(harness, gate, options.faults, figures)
            await server_killed(harness, options.faults, figures)


async def on_one_slot(harness: Harness, times: int, figures: Figures) -> None:
    node: Any = await asyncio.to_thread(harness.start_node)
    async with Pool(backend=harness.url) as pool:
        await until(lambda: bool((cluster := pool.statistics().cluster) and cluster.slots == 1))
        for each in (timeouts, cancellations, disconnects):
            await each(pool, times, figures)
    await asyncio.to_thread(node.end)


def table(figures: Figures) -> Iterator[str]:
    yield "| ms | number | least | median | 99 % | most |\n|---|---:|---:|---:|---:|---:|"
    for what, seconds in figures.items():
        ordered = sorted(seconds)
        nearly_all = ordered[math.ceil(0.99 * len(ordered)) - 1]
        shown = (ordered[0], statistics.median(ordered), nearly_all, ordered[-1])
        yield f"| {what} | {len(ordered)} | " + " | ".join(f"{1000 * each:.0f}" for each in shown) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=list(ENGINES))
    parser.add_argument("--times", type=int, default=10, help="how often each is timed out, cancelled, disconnected")
    parser.add_argument("--deaths", type=int, default=100, help="how many workers are killed")
    parser.add_argument("--faults", type=int, default=5, help="how often a node, and a server, is killed")
    options = parser.parse_args()
    logging.disable()  # each fault is logged as well
    figures: Figures = defaultdict(list)
    try:
        asyncio.run(measure(options.engine, options, figures))
    finally:
        print("\n".join(table(figures)))


if __name__ == "__main__":
    main()
