"""The same for others' job queues: ``python -m experiments.jobs_peers NAME [URL]`` in an environment that has them.

``procrastinate URL`` and ``pgqueuer URL`` on PostgreSQL, ``arq URL`` on Redis, ``huey`` on SQLite; each with its own
worker in the same process (huey: in threads), and jobs that do nothing. Measured are the call that stores a job, from
there until its function begins, and how many a second are stored and done.
"""

# ruff: noqa: T201 - an experiment prints its table
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from typing import Any

ONE_BY_ONE = 100
AT_ONCE = 1000
#: Seconds for which one job, and the last of many, is waited for.
PATIENCE_S = 60.0
_begun: dict[int, float] = {}
_events: dict[int, asyncio.Event] = {}
_done = 0


def show(name: str, submitted: list[float], started: list[float], stored: float, done: float) -> None:
    """Print a line."""
    for values in (submitted, started):
        values.sort()
    half, most = len(submitted) // 2, len(submitted) * 99 // 100
    print(
        f"{name}: submit p50 {submitted[half] * 1e3:.2f} p99 {submitted[most] * 1e3:.2f} ms, started after "
        f"p50 {started[half] * 1e3:.2f} p99 {started[most] * 1e3:.2f} ms, stored {AT_ONCE / stored:,.0f}/s, "
        f"done {AT_ONCE / done:,.0f}/s (load average {os.getloadavg()[0]:.1f})"
    )


async def measure(name: str, submit: Any) -> None:
    """Submit one after another, each when the one before has begun, then many at once."""
    submitted, started = [], []
    for number in range(ONE_BY_ONE):
        _events[number] = asyncio.Event()
        began = time.perf_counter()
        await submit(number)
        submitted.append(time.perf_counter() - began)
        async with asyncio.timeout(PATIENCE_S):
            await _events[number].wait()
        started.append(_begun[number] - began)
    began = time.perf_counter()
    await asyncio.gather(*(submit(-1) for _ in range(AT_ONCE)))
    stored = time.perf_counter() - began
    while _done < AT_ONCE and time.perf_counter() < began + PATIENCE_S:  # noqa: ASYNC110 - the peer tells nobody
        await asyncio.sleep(0.01)
    done = time.perf_counter() - began
    show(name, submitted, started, stored, done * AT_ONCE / max(_done, 1))


def begun(number: int) -> None:
    """Note that a job's function has begun."""
    global _done
    if number >= 0:
        _begun[number] = time.perf_counter()
        _events[number].set()
    else:
        _done += 1


async def with_procrastinate(url: str) -> None:
    """Procrastinate, with its asyncio worker."""
    import procrastinate

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="noop")
    async def noop(number: int) -> None:
        begun(number)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(app.run_worker_async(concurrency=2, install_signal_handlers=False))
        await asyncio.sleep(1)
        if worker.done():
            worker.result()
        await measure("procrastinate", lambda number: noop.defer_async(number=number))
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def with_arq(url: str) -> None:
    """Arq, with its worker."""
    from arq import create_pool
    from arq.connections import RedisSettings
    from arq.worker import Worker, func

    async def noop(context: Any, number: int) -> None:
        begun(number)

    settings = RedisSettings.from_dsn(url)
    redis = await create_pool(settings)
    worker = Worker(
        functions=[func(noop, name="noop")], redis_settings=settings, handle_signals=False, max_jobs=2, keep_result=0
    )
    running = asyncio.create_task(worker.async_run())
    await asyncio.sleep(1)
    await measure("arq", lambda number: redis.enqueue_job("noop", number))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()
    await redis.aclose()


async def with_pgqueuer(url: str) -> None:
    """PgQueuer, with asyncpg."""
    import asyncpg
    from pgqueuer import PgQueuer, Queries
    from pgqueuer.db import AsyncpgDriver

    worker_connection, connection = await asyncpg.connect(url), await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    worker = PgQueuer(AsyncpgDriver(worker_connection))

    @worker.entrypoint("noop")
    async def noop(job: Any) -> None:
        begun(int(job.payload))

    running = asyncio.create_task(worker.run(batch_size=2))
    await asyncio.sleep(1)
    lock = asyncio.Lock()  # asyncpg's connection takes one query at a time

    async def submit(number: int) -> None:
        async with lock:
            await queries.enqueue("noop", str(number).encode())

    await measure("pgqueuer", submit)
    worker.shutdown.set()
    await asyncio.wait({running}, timeout=5)


def with_huey() -> None:
    """Huey on SQLite, with its consumer in threads."""
    import threading

    from huey import SqliteHuey

    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        huey = SqliteHuey(filename=f"{folder}/huey.db", fsync=True)
        events = [threading.Event() for _ in range(ONE_BY_ONE)]

        @huey.task()
        def noop(number: int) -> None:
            global _done
            if number >= 0:
                _begun[number] = time.perf_counter()
                events[number].set()
            else:
                _done += 1

        consumer = huey.create_consumer(workers=2, periodic=False)
        consumer.start()
        submitted, started = [], []
        for number in range(ONE_BY_ONE):
            began = time.perf_counter()
            noop(number)
            submitted.append(time.perf_counter() - began)
            events[number].wait()
            started.append(_begun[number] - began)
        began = time.perf_counter()
        for _ in range(AT_ONCE):
            noop(-1)
        stored = time.perf_counter() - began
        while _done < AT_ONCE and time.perf_counter() < began + PATIENCE_S:
            time.sleep(0.01)
        done = time.perf_counter() - began
        consumer.stop(graceful=True)
        show("huey", submitted, started, stored, done * AT_ONCE / max(_done, 1))


def main() -> None:
    """Measure one of them."""
    name, *url = sys.argv[1:]
    if name == "huey":
        with_huey()
    else:
        peers = {"procrastinate": with_procrastinate, "pgqueuer": with_pgqueuer, "arq": with_arq}
        asyncio.run(peers[name](url[0]))


if __name__ == "__main__":
    main()
