"""A store that is locked, full, damaged, too new, or gone for a while: clear errors, and nothing accepted is lost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from lifepool.jobs import Jobs, JobState, StoreCorrupt, StoreFull, StoreUnavailable
from lifepool.jobs.store import sqlite
from lifepool.jobs.store import store as store_module
from lifepool.jobs.store.schema import MIGRATIONS
from tests.engine.gates import Gate
from tests.jobs import tasks

if TYPE_CHECKING:
    from tests.jobs.postgresql import Server

PATIENCE_S = 30.0


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.2)


@pytest.mark.usefixtures("impatient")
async def test_a_locked_database_is_an_error_that_says_so_and_heals(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2)
        other = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match=r"is locked.*another process keeps it locked") as caught:
                await jobs.submit(tasks.add, 3, 4)
            assert caught.value.status_hint == 503
            assert (await jobs.get(job.id)).state is JobState.QUEUED  # reading goes on
        finally:
            other.close()
        await jobs.submit(tasks.add, 3, 4)
        assert len((await jobs.list()).jobs) == 2


async def test_a_lock_that_is_given_up_in_time_is_waited_for(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url) as jobs:
        other = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(0.1, other.close)
        await jobs.submit(tasks.add, 3, 4)


class _Full:
    """Lets a database grow no more, as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        begin = sqlite.SqliteConnection.begin

        def limited(connection: sqlite.SqliteConnection, *, durable: bool) -> None:
            raw = connection._connection
            (pages,) = raw.execute("PRAGMA page_count").fetchone()
            raw.execute(f"PRAGMA max_page_count={pages if self.is_full else 1 << 30}")
            begin(connection, durable=durable)

        monkeypatch.setattr(sqlite.SqliteConnection, "begin", limited)


async def test_a_full_disk_refuses_new_jobs_and_keeps_the_others(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _Full(monkeypatch)
    async with Jobs(None, store=sqlite_url) as jobs:
        job = await jobs.submit(tasks.echo, "small")
        disk.is_full = True
        with pytest.raises(StoreFull, match="no space left") as caught:
            await jobs.submit(tasks.echo, bytes(100_000))
        assert caught.value.status_hint == 507
        assert [each.id for each in (await jobs.list()).jobs] == [job.id]
        disk.is_full = False
        assert (await jobs.submit(tasks.echo, bytes(100_000))).is_new


async def test_a_result_that_has_no_room_is_stored_when_there_is(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = _Full(monkeypatch)
    with Gate() as gate:
        async with Jobs(Pool(max_workers=1), store=sqlite_url) as jobs:
            job = await jobs.submit(tasks.hold, gate.address, bytes(300_000))
            visitor = await gate.arrival()
            disk.is_full = True
            visitor.let_through()
            async with asyncio.timeout(PATIENCE_S):
                while "can't be stored yet: there is no space left" not in caplog.text:
                    await jobs.look(job.id)
            assert (await jobs.look(job.id)).state is JobState.RUNNING
            disk.is_full = False
            done = await jobs.wait(job.id, PATIENCE_S)
            assert (done.result, done.attempts) == (bytes(300_000), 1)


async def test_a_file_that_is_no_database_is_left_as_it_is(sqlite_url: str) -> None:
    path_of(sqlite_url).write_bytes(b"precious data of somebody else" * 100)
    with pytest.raises(StoreCorrupt, match=r"damaged, or no database.*\.recover"):
        async with Jobs(Pool(backend="inline"), store=sqlite_url):
            pass
    assert path_of(sqlite_url).read_bytes() == b"precious data of somebody else" * 100


async def test_a_damaged_database_is_an_error_that_says_so(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url) as jobs:
        for number in range(100):
            await jobs.submit(tasks.echo, "x" * 1000 + str(number))
    path = path_of(sqlite_url)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(StoreCorrupt, match="damaged"):
        async with Jobs(None, store=sqlite_url) as jobs:
            await jobs.list()


@pytest.mark.usefixtures("impatient")
async def test_a_folder_that_does_not_exist_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"nowhere/jobs\.db"):
        async with Jobs(None, store=f"sqlite:///{tmp_path}/nowhere/jobs.db"):
            pass


async def test_a_store_of_a_newer_version_is_not_touched(store_url: str) -> None:
    async with Jobs(None, store=store_url) as jobs:
        await jobs._running().store._write(lambda tx: tx.run("UPDATE lifepool_jobs_schema SET version = 99"))
    with pytest.raises(StoreCorrupt, match=f"has schema 99, this version knows {len(MIGRATIONS)}"):
        async with Jobs(None, store=store_url):
            pass


async def test_a_migration_brings_an_older_store_up_to_date(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Jobs(None, store=store_url) as jobs:
        job = await jobs.submit(tasks.add, 1, 2)
    more = (*MIGRATIONS, ("ALTER TABLE lifepool_jobs ADD COLUMN extra <float>",))
    monkeypatch.setattr("lifepool.jobs.store.schema.MIGRATIONS", more)
    for _ in range(2):
        async with Jobs(None, store=store_url) as jobs:
            assert (await jobs.get(job.id)).state is JobState.QUEUED
            await jobs._running().store._write(lambda tx: tx.run("UPDATE lifepool_jobs SET extra = 1.5"))


async def test_servers_that_start_at_once_on_an_empty_store_agree(store_url: str) -> None:
    many = [Jobs(None, store=store_url) for _ in range(4)]

    async def start(jobs: Jobs) -> str:
        async with jobs:
            return (await jobs.submit(tasks.add, 1, 2)).id

    ids = await asyncio.gather(*map(start, many))
    async with many[0]:
        assert {job.id for job in (await many[0].list()).jobs} == set(ids)


async def test_connections_to_postgresql_that_are_lost_are_made_anew(postgresql_server: Server) -> None:
    url = postgresql_server.new_store()
    with Gate() as gate:
        async with Jobs(Pool(max_workers=1), store=url, lease=2.0) as jobs:
            job = await jobs.submit(tasks.hold, gate.address, "through")
            visitor = await gate.arrival()
            assert postgresql_server.kill_connections() >= 2
            other = await jobs.submit(tasks.add, 1, 2)
            visitor.let_through()
            assert (await jobs.wait(job.id, PATIENCE_S)).result == "through"
            assert (await jobs.wait(other.id, PATIENCE_S)).result == 3
            assert (await jobs.get(job.id)).attempts == 1


async def test_a_claim_whose_answer_was_lost_is_given_back(
    postgresql_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks right after the commit: the jobs are this server's, and it does not know."""
    import psycopg

    from lifepool.jobs.store.postgresql import PostgresConnection

    url = postgresql_server.new_store()
    commit = PostgresConnection.commit
    lost: list[Any] = []

    def breaks(connection: PostgresConnection, messages: Any) -> None:
        running = connection.execute("SELECT id FROM lifepool_jobs WHERE state = 'running'", ()).fetchall()
        commit(connection, messages)
        if running and not lost:
            lost.append(True)
            raise psycopg.OperationalError("the connection was lost")

    async with Jobs(Pool(max_workers=2, name="lost"), store=url, lease=1.0) as jobs:
        monkeypatch.setattr(PostgresConnection, "commit", breaks)
        job = await jobs.submit(tasks.add, 1, 2)
        done = await jobs.wait(job.id, PATIENCE_S)
        assert (lost, done.result) == ([True], 3)


async def test_a_database_that_can_not_be_reached_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.2)
    with pytest.raises(StoreUnavailable, match="PostgreSQL can't be used now"):
        async with Jobs(None, store=f"postgresql+psycopg://nobody@/nothing?host={tmp_path}"):
            pass


async def test_a_server_that_is_gone_is_seen_by_its_pipe(sqlite_url: str) -> None:
    driver = sqlite.SqliteDriver(path_of(sqlite_url), "NORMAL")
    pipe = sqlite.Pipe(driver.folder, "alive")
    pipe.open(lambda message: None)
    dead = driver.folder / "dead"
    os.mkfifo(dead)  # nobody reads it
    assert driver.dead(["alive", "dead", "unknown"]) == ["dead"]
    assert driver.dead(["alive"]) == []  # and once it is no server's any more it is removed
    assert not dead.exists()
    dead_text = driver.folder / "no-pipe"
    dead_text.write_text("")
    assert driver.dead(["no-pipe"]) == []
    dead_text.unlink()
    pipe.close()
    assert not driver.folder.exists()


async def test_the_last_server_s_end_does_not_spoil_the_start_of_another(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = sqlite.SqliteDriver(path_of(sqlite_url), "NORMAL")
    make = os.mkfifo
    attempts: list[Path] = []

    def remove_and_make(path: Path, mode: int) -> None:
        attempts.append(path)
        if len(attempts) < 3:  # the other one removes the empty folder after this one has made it
            path.parent.rmdir()
        make(path, mode)

    monkeypatch.setattr(os, "mkfifo", remove_and_make)
    pipe = sqlite.Pipe(driver.folder, "alive")
    pipe.open(lambda message: None)
    assert driver.dead(["alive"]) == []
    pipe.close()
    assert not driver.folder.exists()


async def test_what_has_expired_gives_its_space_back(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url) as jobs:
        store = jobs._running().store
        await store.register(60)
        job = await jobs.submit(tasks.echo, bytes(4_000_000))
        await jobs.cancel(job.id)
        full = path_of(sqlite_url).stat().st_size
        await store._write(lambda tx: tx.run("UPDATE lifepool_jobs SET expires_at = 0"))
        await store.renew(60)
    assert full > 4_000_000
    assert path_of(sqlite_url).stat().st_size < 500_000
    assert [path.name for path in path_of(sqlite_url).parent.iterdir()] == ["jobs.db"]
