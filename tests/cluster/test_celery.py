"""What is Celery's alone: its messages, its own tasks, and what is left in Redis."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from lifepool import BackendError, Pool
from lifepool.backends.celery import link as link_module
from lifepool.backends.celery.names import BESIDE, Keys, Queues, celery_message
from lifepool.backends.remote import members
from lifepool.backends.remote.messages import CALL, Signer
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks
from tests.cluster.celery_redis import CeleryOnRedis
from tests.cluster.rabbitmq import has_queue
from tests.cluster.servers import python, wait_until
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


async def test_what_travels_beside_a_message_that_a_node_has_just_taken_is_left_to_it() -> None:
    asked: list[Any] = []
    written: list[Any] = []

    class Link:
        answer = 0

        async def ask(self, *commands: Any) -> list[int]:
            asked.append([command[0] for command in commands])
            return [self.answer] * len(commands)

        def write(self, *commands: Any) -> None:
            written.append([command[0] for command in commands])

    backend = make_remote_backend("celery+redis://localhost/0")
    transport: Any = backend._transport
    transport._link = link = Link()
    calls = [("1", Signer(None).sign(CALL, {"id": "1"}, bytes(BESIDE + 1)))]
    assert await transport.take_back(calls) == {"1"}
    assert (asked, written) == ([["LREM"]], [])
    link.answer = 1
    assert await transport.take_back(calls) == set()
    assert written == [["DEL"]]


def test_a_client_that_is_cut_off_notices_before_a_node_would_seem_silent() -> None:
    assert members.BEAT_S + link_module.BEAT_S + link_module.PROBE_S <= members.SILENCE_S - 0.5


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


CLIENT = """
import asyncio, sys
import tests.cluster.odd_node
from lifepool import Pool
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks

async def main(url, gate, trace):
    backend = make_remote_backend(url)
    async with Pool(backend=backend) as pool:
        running = pool.submit(tasks.hold, gate, "runs")
        while not any(call.node for call in backend._calls):
            await asyncio.sleep(0.01)
        queued = pool.submit(tasks.append_line, trace, "it ran")
        while not backend.cluster_statistics().queued:
            await asyncio.sleep(0.01)
        print("client", backend.client, flush=True)
        await queued

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("own_engine", ["celery+redis", "celery+amqp"], indirect=True)
async def test_queued_work_of_a_client_that_was_killed_does_not_run(
    own_engine: Any, gate: Gate, tmp_path: Path
) -> None:
    node = await asyncio.to_thread(lambda: own_engine.start_node(WRONG_CLIENT_S="4"))
    ahead, trace = own_engine.url.replace("ahead=0", "ahead=1"), tmp_path / "ran"
    log = tmp_path / "client.log"
    client = python("-c", CLIENT, ahead, gate.address, str(trace), log=log, WRONG_CLIENT_S="4")
    visitor = await gate.arrival()
    await asyncio.to_thread(wait_until, lambda: client.has_said("client"), "the call that waits")
    id = log.read_text().split()[-1]
    client.kill()
    await asyncio.to_thread(wait_until, lambda: not is_known(own_engine, id), "the end of what the broker knows of it")
    visitor.let_through()
    async with Pool(backend=own_engine.url) as pool:
        assert await pool.run(tasks.double, 2) == 4  # in the same worker, so after what would have run
    assert not trace.exists()
    assert node.is_alive()


def is_known(engine: Any, client: str) -> bool:
    """Return whether the broker knows a client."""
    if engine.url.startswith("celery+amqp"):
        return has_queue(engine.server, Queues(engine.queue).replies(client))
    with redis.Redis(port=engine.server.port) as connection:
        return bool(connection.exists(Keys(engine.queue).client(client)))


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
