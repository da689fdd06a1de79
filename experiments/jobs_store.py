"""How a job is stored on SQLite: one thread with the standard library's module, aiosqlite, SQLAlchemy Core.

Each writes rows of 300 bytes durably (WAL, synchronous=FULL, then NORMAL): one after another (latency), and a thousand
submitted at once (throughput). What is not installed is left out.
"""

# ruff: noqa: T201, D102, D103 - an experiment prints its table
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import queue
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROW = b"x" * 300
TABLE = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, data BLOB)"
INSERT = "INSERT INTO t (data) VALUES (?)"
ONE_BY_ONE = 500
AT_ONCE = 1000


class Threaded:
    """One thread owns the connection; what waits when it looks is written in one transaction."""

    def __init__(self, path: str, mode: str) -> None:
        self._queue: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, args=(path, mode))
        self._thread.start()

    async def write(self, row: bytes) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((row, future))
        await future

    async def close(self) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self, path: str, mode: str) -> None:
        connection = _opened(path, mode)
        while (item := self._queue.get()) is not None:
            batch = [item]
            while not self._queue.empty() and len(batch) < 500:
                batch.append(self._queue.get())  # type: ignore[arg-type]
            connection.execute("BEGIN IMMEDIATE")
            for row, _ in batch:
                connection.execute(INSERT, (row,))
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_settle, [future for _, future in batch])
        connection.close()


def _settle(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        future.set_result(None)


def _opened(path: str, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={mode}")
    connection.execute(TABLE)
    return connection


async def threaded(path: str, mode: str) -> None:
    store = Threaded(path, mode)
    await _measure(f"thread, sqlite3, {mode}", store.write)
    await store.close()


async def with_aiosqlite(path: str, mode: str) -> None:
    import aiosqlite

    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("PRAGMA journal_mode=WAL")
        await connection.execute(f"PRAGMA synchronous={mode}")
        await connection.execute(TABLE)

        async def write(row: bytes) -> None:
            await connection.execute(INSERT, (row,))

        await _measure(f"aiosqlite, {mode}", write)


async def with_sqlalchemy(path: str, mode: str) -> None:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=sa.StaticPool)
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("data", sa.BLOB))
    async with engine.begin() as connection:
        await connection.execute(sa.text("PRAGMA journal_mode=WAL"))
    async with engine.connect() as connection:
        await connection.execute(sa.text(f"PRAGMA synchronous={mode}"))
        await connection.execute(sa.text(TABLE))
        await connection.commit()
    lock = asyncio.Lock()

    async def write(row: bytes) -> None:
        async with lock, engine.begin() as connection:
            await connection.execute(sa.insert(table).values(data=row))

    await _measure(f"SQLAlchemy Core over aiosqlite, {mode}", write)
    await engine.dispose()


async def _measure(name: str, write: Callable[[bytes], Awaitable[Any]]) -> None:
    times = []
    for _ in range(ONE_BY_ONE):
        began = time.perf_counter()
        await write(ROW)
        times.append(time.perf_counter() - began)
    times.sort()
    began = time.perf_counter()
    await asyncio.gather(*(write(ROW) for _ in range(AT_ONCE)))
    rate = AT_ONCE / (time.perf_counter() - began)
    p50, p99 = times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3
    print(f"{name:<44} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   {rate:8,.0f} rows/s at once", flush=True)


def main() -> None:
    for mode in ("FULL", "NORMAL"):
        for number, case in enumerate((threaded, with_aiosqlite, with_sqlalchemy)):
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                try:
                    asyncio.run(case(f"{folder}/{number}.db", mode))
                except ImportError as error:
                    print(f"{case.__name__}: left out, {error}")


if __name__ == "__main__":
    main()
