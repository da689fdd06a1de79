"""Work with a store of jobs directly: one connection, one transaction at a time, nothing made and nothing migrated."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from lifepool.errors import PoolError
from lifepool.jobs.store.addresses import check_url, make_driver
from lifepool.jobs.store.drivers import Transaction
from lifepool.jobs.store.schema import MIGRATIONS
from lifepool.jobs.store.sqlite import SqliteDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lifepool.jobs.store.drivers import Connection, Driver

T = TypeVar("T")

_TABLE = "lifepool_jobs_schema"


class WrongUsage(Exception):
    """What was asked for makes no sense; the message says what does."""


class NoStore(Exception):
    """The store can't be used; the message says why, and what to do."""


class Session:
    """A connection to a store that has this version's tables.

    Args:
        driver: Of the database.
        connection: It is open.
    """

    def __init__(self, driver: Driver, connection: Connection) -> None:
        self._driver = driver
        self._connection = connection

    def run(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation of ``lifepool.jobs.store``; when this returns it is on the disk, and servers were notified.

        Raises:
            JobError: What the operation itself raises: there is no such job, or it is in the wrong state.
            NoStore: If the store can't be used.
        """
        try:
            self._connection.begin(durable=True)
            transaction = Transaction(self._connection, self._driver)
            found = operation(transaction)
            self._connection.commit(list(transaction.messages))
        except BaseException as error:
            self._connection.rollback()
            if isinstance(error, PoolError) or not isinstance(error, Exception):
                raise
            raise _why(self._driver, error) from error
        return found


@contextmanager
def opened(url: str | None) -> Iterator[Session]:
    """Open a store that is there.

    Args:
        url: Of the store; None: ``LIFEPOOL_JOBS_STORE``.

    Raises:
        WrongUsage: If no store is named, or its driver is not installed.
        NoStore: If there is none, or it can't be used.
    """
    if not url:
        raise WrongUsage("which store? Say --store sqlite:///jobs.db, or set LIFEPOOL_JOBS_STORE")
    try:
        driver = make_driver(check_url(url))
    except (ValueError, ImportError) as error:
        raise WrongUsage(str(error)) from None
    with _told(driver):
        _check_file(driver)
        connection = driver.connect(read_only=False)
    try:
        with _told(driver):
            _check_version(driver, connection)
        yield Session(driver, connection)
    finally:
        connection.close()


@contextmanager
def _told(driver: Driver) -> Iterator[None]:
    """Turn what a driver raises into what a person can act on."""
    try:
        yield
    except NoStore:
        raise
    except Exception as error:
        raise _why(driver, error) from error


def _why(driver: Driver, error: Exception) -> Exception:
    found = error if isinstance(error, PoolError) else driver.error_of(error)
    return error if found is None else NoStore(str(found))


def _check_file(driver: Driver) -> None:
    """Look whether a SQLite file is a store, before it is opened for writing: that would make one, or change it."""
    if not isinstance(driver, SqliteDriver):
        return
    if not driver.path.exists():
        raise NoStore(f"there is no file {driver.path}: is that where the server keeps its jobs?")
    address = f"file:{quote(str(driver.path))}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        if connection.execute(query, (_TABLE,)).fetchone() is None:
            raise NoStore(f"{driver.path} is a SQLite database, but there are no jobs in it")


def _check_version(driver: Driver, connection: Connection) -> None:
    try:
        connection.begin(durable=False)
        row = Transaction(connection, driver).row(f"SELECT version FROM {_TABLE}")  # noqa: S608 - it is ours
    except Exception as error:
        if _TABLE in str(error):
            raise NoStore("there are no jobs in this database: no server has used it as a store yet") from None
        raise
    finally:
        connection.rollback()
    version, own = 0 if row is None else int(row[0]), len(MIGRATIONS)
    if version > own:
        raise NoStore(
            f"the store has schema {version}, this version of lifepool knows {own}: use the version of the servers"
        )
    if version < own:
        raise NoStore(f"the store has schema {version}, this version of lifepool needs {own}: start a server with it")
