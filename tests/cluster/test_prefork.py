"""`register(app)`: the prefork workers of a Celery app run calls, with what Celery can do."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import BackendError, BackendUnsupported, Pool, TaskTimeout, WorkerLost
from lifepool.backends.celery import register
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks
from tests.cluster.servers import python, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.servers import RedisServer
    from tests.engine.gates import Gate

QUEUE = "theirs"


@pytest.fixture(scope="module")
def url(shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a worker of two processes."""
    worker = python(
        "-m", "celery", "-A", "tests.cluster.prefork_app", "worker", "--concurrency", "2", "--loglevel", "INFO",
        "--without-gossip", "--without-mingle",
        log=tmp_path_factory.mktemp("prefork") / "worker.log",
        C_FORCE_ROOT="1", THEIR_BROKER=shared_redis.address, THEIR_QUEUE=QUEUE,
    )  # fmt: skip
    try:
        wait_until(lambda: worker.has_said(" ready."), "the worker")
        yield f"celery+{shared_redis.address}?queue={QUEUE}&workers=celery"
    finally:
        worker.end()


async def test_results_and_errors_come_home_from_processes_of_celery(url: str) -> None:
    async with Pool(backend=url) as pool:
        assert await pool.gather(tasks.double, range(30), chunksize=1) == list(range(0, 60, 2))
        with pytest.raises(ValueError, match="deep down") as raised:
            await pool.run(tasks.fail_deeply)
        assert "fail_deeply" in str(raised.value.__cause__)
        payload = os.urandom(1 << 20)
        assert await pool.run(tasks.echo, payload) == payload


async def test_a_deadline_and_a_cancellation_end_the_process(url: str, gate: Gate) -> None:
    async with Pool(backend=url) as pool:
        for hold in (tasks.hold_in_c, tasks.hold_stubbornly):
            held = pool.submit(hold, gate.address, timeout=5.0)
            await gate.arrival()
            with pytest.raises(TaskTimeout):
                await held
        handles = [pool.submit(tasks.hold_in_c, gate.address) for _ in range(2)]
        for _ in handles:
            await gate.arrival()
        for handle in handles:
            handle.cancel()
        assert await pool.run(tasks.double, 2, timeout=30) == 4


async def test_a_process_that_dies_loses_its_own_task_alone(url: str, gate: Gate) -> None:
    async with Pool(backend=url) as pool:
        other = pool.submit(tasks.hold, gate.address, "stays")
        visitor = await gate.arrival()
        with pytest.raises(WorkerLost):
            await pool.run(tasks.exit_hard, 3)
        visitor.let_through()
        assert await other == "stays"


async def test_what_it_can_not_do_is_said(url: str) -> None:
    backend = make_remote_backend(url)
    assert not backend.capabilities.progress
    async with Pool(backend=backend) as pool:
        handle = pool.submit(tasks.report_and_return, "half")
        assert await handle == "half"
        assert handle.progress is None
        with pytest.raises(BackendUnsupported, match="--allow posix"):
            await pool.run(os.getpid)


async def test_a_pool_that_takes_them_for_nodes_is_told_what_to_change(url: str) -> None:
    async with Pool(backend=url.replace("&workers=celery", "")) as pool:
        assert await pool.run(tasks.double, 2) == 4  # alone in its message
        with pytest.raises(BackendError, match="workers=celery"):
            await asyncio.gather(*(pool.run(tasks.double, n) for n in range(100)))


async def test_the_tasks_of_the_app_run_beside_ours(url: str, shared_redis: RedisServer) -> None:
    program = "from tests.cluster.prefork_app import add\nassert add.delay(1, 2).get(timeout=30) == 3\n"
    environment = {"THEIR_BROKER": shared_redis.address, "THEIR_QUEUE": QUEUE, "PATH": os.environ["PATH"]}
    theirs = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment)
    async with Pool(backend=url) as pool:
        await asyncio.gather(*(pool.run(time.sleep, 0) for _ in range(5)))
    assert await theirs.wait() == 0


@pytest.mark.parametrize("broker", ["amqp://localhost", "memory://"])
def test_a_broker_that_is_not_redis_is_refused(broker: str) -> None:
    class App:
        conf: Any = type("conf", (), {"broker_url": broker, "task_default_queue": "celery"})

    with pytest.raises(BackendUnsupported, match="Redis"):
        register(App(), allow=[])
