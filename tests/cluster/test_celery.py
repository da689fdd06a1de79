"""What is Celery's alone: its messages, its own tasks, and what is left in Redis."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import redis

from lifepool import BackendError, Pool
from lifepool.backends.celery.names import celery_message
from lifepool.backends.remote.messages import CALL, Signer
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks
from tests.cluster.celery_redis import CeleryOnRedis
from tests.cluster.servers import wait_until
from tests.engine.gates import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.servers import RedisServer


@pytest.fixture
def celery(shared_redis: RedisServer) -> Iterator[CeleryOnRedis]:
    with CeleryOnRedis(shared_redis) as harness:
        yield harness


@pytest.fixture
def server(shared_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=shared_redis.port) as connection:
        yield connection


async def test_no_payload_stays_in_redis(celery: CeleryOnRedis, server: redis.Redis) -> None:
    await asyncio.to_thread(celery.start_node, 2)
    before = server.info("memory")["used_memory"]
    async with Pool(backend=celery.url) as pool:
        await pool.gather(tasks.echo, [bytes(1 << 20)] * 60, chunksize=1)
    left = [key for key in server.keys(f"lifepool:{celery.queue}:*") if b":claim:" not in key]
    assert left == []
    assert server.info("memory")["used_memory"] - before < 20 << 20


async def test_queued_work_of_a_client_that_is_gone_does_not_run(
    celery: CeleryOnRedis, server: redis.Redis, tmp_path: object
) -> None:
    trace = f"{tmp_path}/ran"
    async with Pool(backend=celery.url) as pool:
        handle = pool.submit(tasks.append_line, trace, "it ran")
        await until(lambda: server.llen(celery.queue) == 1)
        (message,) = server.lrange(celery.queue, 0, -1)
        handle.cancel()
        await until(lambda: server.llen(celery.queue) == 0 or handle.done())
    server.delete(celery.queue)
    server.lpush(celery.queue, message)  # the client could not take it back: it was killed
    node = await asyncio.to_thread(celery.start_node)
    await asyncio.to_thread(wait_until, lambda: node.has_said("abandoned"), "the refusal")
    with pytest.raises(FileNotFoundError):
        tasks.read_line(trace)


async def test_forged_messages_are_refused_and_the_node_goes_on(celery: CeleryOnRedis, server: redis.Redis) -> None:
    node = await asyncio.to_thread(celery.start_node)
    fields = {"id": "x-1", "client": "x", "fn": "tests.tasks:double", "issued": 0, "left": None, "limit": 1}
    forged = Signer("guessed").sign(CALL, fields, b"payload")
    server.lpush(celery.queue, *[celery_message(celery.queue, id, [forged]) for id in ("x-1", "x-2")])
    await asyncio.to_thread(wait_until, lambda: node.has_said("unsigned"), "the refusal")
    async with Pool(backend=celery.url) as pool:
        assert await pool.run(tasks.double, 2) == 4


REVOKE = """
import sys
from lifepool.backends.remote.urls import parse
from lifepool.nodes.celery_worker import make_app
make_app(parse(sys.argv[1])).control.revoke(sys.argv[2], terminate=True)
"""


async def test_a_celery_revoke_reaches_what_runs(celery: CeleryOnRedis) -> None:
    await asyncio.to_thread(celery.start_node)
    backend = make_remote_backend(celery.url)
    async with Pool(backend=backend) as pool:
        sleeping = pool.submit(time.sleep, 60)
        await until(lambda: any(call.node for call in backend._calls))
        (call,) = backend._calls
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", REVOKE, celery.url, call.id], check=True)
        with pytest.raises(BackendError, match="cancelled by somebody else"):
            await sleeping
