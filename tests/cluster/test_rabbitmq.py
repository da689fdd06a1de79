"""What is RabbitMQ's alone: the queues that we make there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import amqp

from lifepool import Pool
from lifepool.backends.celery.amqp_link import PART_BYTES
from lifepool.backends.celery.names import Queues
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks
from tests.cluster.rabbitmq import CeleryOnRabbitmq, RabbitServer, rabbitmq_program

if TYPE_CHECKING:
    from pathlib import Path


async def test_no_queue_stays_in_rabbitmq(tmp_path: Path) -> None:
    program = rabbitmq_program()
    assert program is not None, "run `sh scripts/ensure-rabbitmq.sh`"
    with RabbitServer(program, tmp_path) as server, CeleryOnRabbitmq(server) as amqp_cluster:
        await asyncio.to_thread(amqp_cluster.start_node)
        backend = make_remote_backend(amqp_cluster.url)
        names = Queues(amqp_cluster.queue)
        async with Pool(backend=backend) as pool:
            data = bytes(3 * PART_BYTES)
            assert await pool.gather(tasks.echo, [data] * 4, chunksize=1) == [data] * 4
            ids = [f"{backend.client}-{number}" for number in range(1, 5)]
            assert not any(has_queue(server, names.payload(id)) for id in ids)
            assert has_queue(server, names.replies(backend.client))
        assert not has_queue(server, names.replies(backend.client))


def has_queue(server: RabbitServer, name: str) -> bool:
    with amqp.Connection(urlsplit(server.address).netloc.rpartition("@")[2]) as connection:
        try:
            connection.channel().queue_declare(name, passive=True)
        except amqp.NotFound:
            return False
        return True
