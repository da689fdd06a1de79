"""What is RabbitMQ's alone: the queues that we make there, what is taken out of them, and how a node ends."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

import amqp
import pytest

from lifepool import Pool
from lifepool.backends.celery.amqp_link import PART_BYTES
from lifepool.backends.celery.amqp_recall import recall
from lifepool.backends.celery.amqp_transport import WAIT_S, declare_calls
from lifepool.backends.celery.names import Queues, celery_body
from lifepool.backends.remote import messages as msg
from lifepool.backends.remote.messages import Signer
from lifepool.backends.remote.urls import make_remote_backend
from lifepool.nodes.celery_pool import TaskPool
from tests import tasks
from tests.cluster.rabbitmq import CeleryOnRabbitmq, RabbitServer, connected, has_queue, rabbitmq_program

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


def put(channel: Any, queue: str, id: str) -> None:
    call = Signer(None).sign(
        msg.CALL, {"id": id, "client": id, "fn": "time:sleep", "issued": time.time(), "left": None}
    )
    properties = {"correlation_id": id, "expiration": "50000", "content_type": "application/json"}
    channel.basic_publish_confirm(amqp.Message(celery_body([call]), **properties), "", queue)


def test_what_waits_without_nodes_is_taken_out_and_what_others_have_there_stays_as_good_as_new(tmp_path: Path) -> None:
    program = rabbitmq_program()
    assert program is not None, "run `sh scripts/ensure-rabbitmq.sh`"
    with RabbitServer(program, tmp_path) as server, connected(server) as connection:

        def look(ids: set[str]) -> tuple[set[str], bool]:
            return recall(connection, lambda channel: declare_calls(channel, "q"), "q", ids, WAIT_S)

        assert look({"mine"}) == (set(), True)
        channel = connection.channel()
        channel.confirm_select()
        put(channel, "q", "begun")
        channel.basic_reject(channel.basic_get("q").delivery_tag, requeue=True)  # as of a node that died
        for id in ("theirs", "mine", "theirs too"):
            put(channel, "q", id)
        assert look({"mine", "begun"}) == ({"mine"}, True)
        left = [channel.basic_get("q", no_ack=True) for _ in range(3)]
        assert [each and each.properties["correlation_id"] for each in left] == ["theirs", "theirs too", None]
        assert not any(each.delivery_info["redelivered"] for each in left if each)
        assert all(0 < int(each.properties["expiration"]) <= 1000 * WAIT_S for each in left if each)
        put(channel, "q", "mine")
        channel.basic_qos(0, 1, False)
        channel.basic_consume("q", consumer_tag="node", callback=lambda _: None)
        put(channel, "q", "mine too")
        with pytest.raises(LookupError, match="nodes read"):
            look({"mine too"})


class Loop:
    """What is used of Celery's event loop."""

    def add_reader(self, file: int, then: Any) -> None:
        self.file = file


def test_a_signal_wakes_the_loop_of_a_node() -> None:
    pool, loop = TaskPool.__new__(TaskPool), Loop()
    pool._wake_read, pool._wake_write = os.pipe()
    os.set_blocking(pool._wake_write, False)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        pool.register_with_event_loop(loop)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([loop.file], [], [], 30)[0] == [loop.file]
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
        os.close(pool._wake_read)
        os.close(pool._wake_write)
