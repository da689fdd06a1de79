"""The connection to Redis that clients and nodes use: commands in one go, answers in their order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import RedisError, ResponseError

from lifepool.backends.celery.redis_connection import connect
from tests.cluster.proxy import Proxy

if TYPE_CHECKING:
    from tests.cluster.servers import RedisServer

WITHIN_S = 10.0


async def test_commands_are_answered_in_their_order_and_large_values_too(shared_redis: RedisServer) -> None:
    value = bytes(range(256)) * 4096
    async with await connect(shared_redis.address, WITHIN_S) as connection:
        answers = await connection.ask(("SET", "key", value, "EX", 20), ("GET", "key"), ("LLEN", "no such list"))
    assert answers == [b"OK", value, 0]


async def test_a_refusal_is_raised_after_all_answers_were_read(shared_redis: RedisServer) -> None:
    async with await connect(shared_redis.address, WITHIN_S) as connection:
        with pytest.raises(ResponseError, match="unknown command"):
            await connection.ask(("SET", "a", "1", "EX", 20), ("NONSENSE",), ("SET", "b", "2", "EX", 20))
        assert await connection.ask(("GET", "a"), ("GET", "b")) == [b"1", b"2"]


async def test_what_is_published_is_heard(shared_redis: RedisServer) -> None:
    async with (
        await connect(shared_redis.address, WITHIN_S) as listener,
        await connect(shared_redis.address, WITHIN_S) as speaker,
    ):
        assert await listener.ask(("SUBSCRIBE", "channel")) == [[b"subscribe", b"channel", 1]]
        await speaker.ask(("PUBLISH", "channel", b"hello"))
        async with asyncio.timeout(WITHIN_S):
            assert await listener.hear() == [b"message", b"channel", b"hello"]


async def test_a_connection_that_breaks_is_an_error_and_a_silent_server_one_in_time(shared_redis: RedisServer) -> None:
    with Proxy(shared_redis.port) as proxy:
        address = shared_redis.address.replace(str(shared_redis.port), str(proxy.port))
        async with await connect(address, WITHIN_S) as connection:
            waiting = asyncio.ensure_future(connection.ask(("BLPOP", "no such list", 0)))
            await asyncio.sleep(0)
            proxy.reset()
            with pytest.raises((RedisError, OSError)):
                await waiting
        proxy.is_cut = True
        with pytest.raises((TimeoutError, RedisError)):
            await connect(address, 0.2)
