"""Stores without a pool: the operations themselves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lifepool.jobs.ids import new_id
from lifepool.jobs.records import NewJob
from lifepool.jobs.store.addresses import make_driver
from lifepool.jobs.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LEASE = 60.0


def new_job(**options: Any) -> NewJob:
    """A job that is good enough for a store."""
    given = {"id": new_id(), "name": "work", "function": "module:work", "arguments": b"L1J-", "payload_hash": "hash"}
    return NewJob(**{**given, **options})


@asynccontextmanager
async def opened(
    url: str, server: str | None = None, messages: list[str] | None = None, *, now: str | None = None
) -> AsyncIterator[Store]:
    """A store of its own, registered as a server unless it has none; ``now``: SQL of another clock."""
    heard = [] if messages is None else messages
    driver = make_driver(url)
    driver.now = now or driver.now
    store = Store(driver, server or new_id(), heard.append)
    await store.open()
    try:
        if server is not None:
            await store.register(LEASE)
        yield store
    finally:
        await store.close()


async def submitted(store: Store, **options: Any) -> str:
    return (await store.submit(new_job(**options), wake=False)).id
