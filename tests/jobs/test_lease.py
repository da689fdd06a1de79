"""By when the jobs of a dead server run elsewhere, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool
from lifepool.jobs.records import JobState
from lifepool.jobs.runner import HEARTBEATS_PER_LEASE, Runner
from lifepool.jobs.sealing import Sealer
from lifepool.jobs.store.sqlite import SqliteDriver
from lifepool.jobs.values import encode
from tests.jobs.running import PATIENCE_S
from tests.jobs.stores import opened, submitted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lifepool.jobs.store.store import Store

LEASE_S = 15.0
STEP_S = 0.5
#: What the database takes for the present instant.
NOW = "(SELECT t FROM test_clock)"


class Clock:
    """The time of the database and of a server; it stands still until it is moved."""

    def __init__(self, store: Store) -> None:
        self.now = 1000.0
        self._store = store
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self._asleep = asyncio.Condition()

    async def start(self) -> None:
        def make(tx: object) -> None:
            tx.run("CREATE TABLE test_clock (t DOUBLE PRECISION)")  # type: ignore[attr-defined]
            tx.run("INSERT INTO test_clock (t) VALUES (?)", self.now)  # type: ignore[attr-defined]

        await self._store._write(make)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        async with self._asleep:
            self._sleepers.append((self.now + seconds, woken))
            self._asleep.notify_all()
        await woken.wait()

    async def step(self) -> None:
        """Move the time, and return when whoever was woken sleeps again."""
        self.now += STEP_S
        await self._store._write(lambda tx: tx.run("UPDATE test_clock SET t = ?", self.now))
        async with self._asleep, asyncio.timeout(PATIENCE_S):
            count = len(self._sleepers)
            for due, woken in self._sleepers:
                if due <= self.now:
                    woken.set()
            self._sleepers = [each for each in self._sleepers if not each[1].is_set()]
            await self._asleep.wait_for(lambda: len(self._sleepers) >= count)


@asynccontextmanager
async def running(store: Store, clock: Clock) -> AsyncIterator[None]:
    """A server that has no jobs yet."""
    async with Pool(backend="inline") as pool:
        runner = Runner(pool, store, Sealer(None), max_running=1, lease=LEASE_S, sleep=clock.sleep)
        await runner.start()
        try:
            yield
        finally:
            await runner.stop(0)


async def taken_over_after(url: str, clock: Clock, store: Store, *, pipe: bool) -> float:
    """Let a server die right after it has renewed its lease; after how long another has begun its job."""
    arguments = Sealer(None).seal("arguments", "", "", *encode(((1, 2), {}), "args", may_pickle=False))
    name = f"dies at {clock.now}"
    async with opened(url, name, now=NOW) as dying:
        job = await submitted(dying, function="operator:add", arguments=arguments)
        claim = await dying.claim(1)
        assert claim is not None
        assert claim.jobs[0].id == job
        assert await dying.renew(LEASE_S) is not None
    if pipe:  # as the kernel leaves it when a process is killed
        driver = store._driver
        assert isinstance(driver, SqliteDriver)
        os.mkfifo(driver.folder / name)
    died = clock.now
    while (await store.get(job)).state is JobState.RUNNING:
        assert clock.now < died + 10 * LEASE_S
        await clock.step()
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await store.get(job)).state.is_final:
            await store.counts()
    assert (found.state, found.attempts) == ("succeeded", 2)
    assert found.started_at is not None
    return found.started_at - died


@pytest.mark.parametrize(
    ("store_url", "by_pipe"), [("sqlite", False), ("sqlite", True), ("postgresql", False)], indirect=["store_url"]
)
async def test_the_jobs_of_a_dead_server_are_taken_over_within_the_bound(store_url: str, by_pipe: bool) -> None:
    heartbeat = LEASE_S / HEARTBEATS_PER_LEASE
    async with opened(store_url) as admin:
        clock = Clock(admin)
        await clock.start()
        async with opened(store_url, now=NOW) as store, running(store, clock):
            delays = []
            for _ in range(int(heartbeat / STEP_S)):  # wherever the other server is between two of its heartbeats
                await clock.step()
                delays.append(await taken_over_after(store_url, clock, store, pipe=by_pipe))
    if by_pipe:
        assert max(delays) <= heartbeat
    else:
        assert min(delays) >= LEASE_S
        assert max(delays) <= LEASE_S + heartbeat
