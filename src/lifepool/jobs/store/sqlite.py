"""SQLite: one file, for servers on one host. The standard library's module, and named pipes to wake each other."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from lifepool.jobs.errors import StoreCorrupt, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lifepool.jobs.errors import StoreError
    from lifepool.jobs.store.drivers import Transaction

#: RETURNING came with it, in March 2021.
OLDEST = (3, 35, 0)
#: Seconds that a statement waits for another process's transaction before it is an error.
BUSY_S = 5.0

#: Times that the folder of the servers' pipes is made, if others remove it meanwhile.
FOLDER_ATTEMPTS = 10
#: Pages (4 KiB) that are given back at a time when jobs have expired.
_FREED_PAGES = 1000
#: Bytes that the write-ahead log keeps on the disk once it is empty.
_MAX_LOG = 64 << 20

_FULL = {sqlite3.SQLITE_FULL}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
#: IOERR: an error of the file system, such as a quota. READONLY: also a file that was put in the place of another.
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
}  # fmt: skip
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class SqliteDriver:
    """The jobs of one file.

    Args:
        path: The database; its folder exists.
        synchronous: ``"FULL"``: what was accepted survives a power cut. ``"NORMAL"``: it survives the end of the
            server in any way, but after a power cut or a crash of the system the last moments may be missing.

    Raises:
        StoreUnavailable: If this Python's SQLite is too old.
    """

    types: Mapping[str, str] = {"serial": "INTEGER PRIMARY KEY AUTOINCREMENT", "float": "REAL", "bytes": "BLOB"}
    now = "lifepool_now()"
    locks_rows = False
    syncs_outcomes = False

    def __init__(self, path: Path, synchronous: str) -> None:
        if sqlite3.sqlite_version_info < OLDEST:
            raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old: jobs need 3.35")
        self.path = path
        self.folder: Path = path.with_name(path.name + "-servers")
        self._synchronous = synchronous
        self._server = ""

    def connect(self, *, read_only: bool) -> SqliteConnection:
        """Open the database; it is made if there is none."""
        return SqliteConnection(self, read_only=read_only, synchronous=self._synchronous)

    def signals(self, server: str) -> Pipe:
        """Make this server's named pipe."""
        self._server = server
        return Pipe(self.folder, server)

    def tell_others(self, messages: Sequence[str]) -> None:
        """Write to the other servers' pipes.

        A message may be lost, if a pipe is full: servers look for themselves every few seconds.
        """
        for name in _names_in(self.folder):
            if name != self._server and (fd := _opened(self.folder / name)) is not None:
                try:
                    for chunk in _chunks(messages):
                        os.write(fd, chunk)
                except OSError:
                    continue
                finally:
                    os.close(fd)

    def dead(self, servers: Sequence[str]) -> list[str]:
        """Return those whose pipe nobody reads: the system closes it, however its process ends.

        Pipes that belong to no server any more are removed.
        """
        unread = [name for name in _names_in(self.folder) if name != self._server and _is_unread(self.folder / name)]
        for name in unread:
            if name not in servers:
                with contextlib.suppress(OSError):
                    os.unlink(self.folder / name)
        return [name for name in unread if name in servers]

    def lock_schema(self, transaction: Transaction) -> None:
        """Do nothing: a transaction that writes is alone."""

    def try_lock_key(self, transaction: Transaction, key: str) -> bool:
        """Do nothing: likewise."""
        return True

    def shrink(self, transaction: Transaction) -> None:
        """Give free pages back to the file system, some megabytes of them at a time."""
        ((free,),) = transaction.rows("PRAGMA freelist_count")
        for _ in range(min(free, _FREED_PAGES)):  # one page each: Python's module makes one step of what has no rows
            transaction.run("PRAGMA incremental_vacuum(1)")

    def error_of(self, error: Exception) -> StoreError | None:
        """Translate an error of SQLite or of the file system."""
        if isinstance(error, OSError) and not isinstance(error, sqlite3.Error):
            if error.errno in _NO_SPACE:
                return StoreFull(f"there is no space left for the job store {self.path}")
            return StoreUnavailable(f"the job store {self.path} can't be used: {error}")
        if not isinstance(error, sqlite3.Error):
            return None
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _FULL:
            return StoreFull(f"there is no space left for the job store {self.path}")
        if code in _CORRUPT:
            hint = f"restore it from a backup, or try: sqlite3 {self.path} .recover"
            return StoreCorrupt(f"the job store {self.path} is damaged, or no database: {error}", hint=hint)
        if code in _UNAVAILABLE:
            hint = f"another process keeps it locked, or it is not writable; see: fuser {self.path}"
            return StoreUnavailable(f"the job store {self.path} can't be used now: {error}", hint=hint)
        return None


class SqliteConnection:
    """One connection, in write-ahead mode: readers and the writer do not wait for each other."""

    def __init__(self, driver: SqliteDriver, *, read_only: bool, synchronous: str) -> None:
        self._driver = driver
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        self._synchronous = synchronous
        self._is_durable: bool | None = None
        self._connection = sqlite3.connect(driver.path, timeout=BUSY_S, isolation_level=None, cached_statements=200)
        try:
            if not read_only and not self._connection.execute("PRAGMA page_count").fetchone()[0]:
                self._connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # a new file: it can shrink again
            (mode,) = self._connection.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":
                raise StoreUnavailable(f"{driver.path} is on a file system without write-ahead logging ({mode})")
            self._connection.execute(f"PRAGMA journal_size_limit={_MAX_LOG}")
            self._connection.create_function("lifepool_now", 0, time.time)
        except BaseException:
            self._connection.close()
            raise

    def begin(self, *, durable: bool) -> None:
        """Begin a transaction; one that writes waits here until it is alone."""
        if durable is not self._is_durable:
            self._connection.execute(f"PRAGMA synchronous={self._synchronous if durable else 'NORMAL'}")
            self._is_durable = durable
        self._connection.execute(self._begin)

    def execute(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        """Run one statement."""
        return self._connection.execute(sql, parameters)

    def commit(self, messages: Sequence[str]) -> None:
        """Commit, then write to the other servers' pipes."""
        self._connection.execute("COMMIT")
        if messages:
            self._driver.tell_others(messages)

    def rollback(self) -> None:
        """Take back what was not committed."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


class Pipe:
    """A named pipe that this server reads and the others write to.

    That nobody reads it any more tells the others that its server has ended, in whatever way.

    Args:
        folder: Where the servers' pipes are.
        server: The id of this one.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._path = folder / server
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = -1
        self._rest = b""

    def open(self, on_message: Callable[[str], None]) -> None:
        """Make the pipe and listen."""
        import asyncio

        hidden = self._path.with_name(f".{self._path.name}")
        _make_pipe(hidden)
        # For reading and writing: a pipe that loses its last writer would be readable for ever.
        self._fd = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.rename(hidden, self._path)  # seen from now on: never without a reader
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read, on_message)

    def check(self) -> None:
        """Do nothing: a pipe stays."""

    def close(self) -> None:
        """End it, so that the others see at once that this server is gone."""
        if self._fd < 0:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        with contextlib.suppress(OSError):  # others are in it
            os.rmdir(self._path.parent)

    def _read(self, on_message: Callable[[str], None]) -> None:
        try:
            data = self._rest + os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        *lines, self._rest = data.split(b"\n")
        for line in dict.fromkeys(lines):
            on_message(line.decode(errors="replace"))


def _make_pipe(path: Path) -> None:
    for attempt in range(FOLDER_ATTEMPTS):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path.parent, 0o700)  # not `Path.mkdir`: that looks again, and raises if it is gone by then
        try:
            os.mkfifo(path, 0o600)
        except FileNotFoundError:  # the last server that was there has removed the folder in between
            if attempt == FOLDER_ATTEMPTS - 1:
                raise
        else:
            return


def _names_in(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []


def _opened(path: Path) -> int | None:
    """Open a pipe for writing; None if nobody reads it."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _is_unread(path: Path) -> bool:
    """Whether it is a pipe that no process has open for reading."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.ENXIO
    return False


#: Bytes that a pipe takes at once or not at all, on every system (POSIX).
_ATOMIC = 512


def _chunks(messages: Sequence[str]) -> list[bytes]:
    lines = [f"{message}\n".encode() for message in messages]
    chunks, chunk = [], b""
    for line in lines:
        if len(chunk) + len(line) > _ATOMIC:
            chunks.append(chunk)
            chunk = b""
        chunk += line
    return [*chunks, chunk]
