"""What the store needs of a database, and what an operation sees of it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from lifepool.jobs.store.rows import JOB_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lifepool.jobs.errors import StoreError

#: A message to all servers: a job's id if it has changed, with ``STOP`` before it if it was cancelled while it runs;
#: ``WAKE`` if there may be work; ``CALL`` if a job has ended of which somebody is to be notified.
WAKE, CALL, STOP = "*", "!", "-"


class Connection(Protocol):
    """One connection. It belongs to one thread. Its methods raise what its driver raises."""

    def begin(self, *, durable: bool) -> None:
        """Begin a transaction; ``durable``: once it is committed it must survive a power cut too."""

    def execute(self, sql: str, parameters: Sequence[Any]) -> Any:
        """Run one statement with ``?`` for its parameters, and return the cursor."""

    def commit(self, messages: Sequence[str]) -> None:
        """Commit, and let the other servers have these messages."""

    def rollback(self) -> None:
        """Take back what was not committed; never raises."""

    def close(self) -> None:
        """Close it; never raises."""


class Signals(Protocol):
    """How servers on one store notify each other."""

    def open(self, on_message: Callable[[str], None]) -> None:
        """Begin to listen, on the running event loop.

        Raises:
            OSError: If that is not possible.
        """

    def check(self) -> None:
        """See to it that this server is still listening; called now and then on the event loop; never raises."""

    def close(self) -> None:
        """End it; never raises."""


class Driver(Protocol):
    """A kind of database.

    Attributes:
        types: The names of types in the schema, by their placeholders.
        now: The SQL expression of the present instant in seconds, as the database's clock has it.
        locks_rows: Whether rows are locked. Else a transaction that writes is alone.
        syncs_outcomes: Whether the outcome of a job waits for the disk. Else it does so with what is accepted next, or
            with the next renewal of the lease: after a power cut the jobs that had ended since run again.
    """

    types: Mapping[str, str]
    now: str
    locks_rows: bool
    syncs_outcomes: bool

    def connect(self, *, read_only: bool) -> Connection:
        """Open a connection, in the thread that is going to use it."""

    def signals(self, server: str) -> Signals:
        """Make the signals of a server with this id."""

    def dead(self, servers: Sequence[str]) -> list[str]:
        """Return which of these servers have certainly ended; called by an operation. None, if that can't be seen."""

    def lock_schema(self, transaction: Transaction) -> None:
        """Keep others from changing the schema until this transaction ends."""

    def try_lock_key(self, transaction: Transaction, key: str) -> bool:
        """Keep others from claiming jobs with this ``limit_key`` until this transaction ends; False if one does."""

    def shrink(self, transaction: Transaction) -> None:
        """Give some of the space back that deleted rows have left, if the database does not do that by itself."""

    def error_of(self, error: Exception) -> StoreError | None:
        """Return what an exception of the driver means; None if it is a bug of ours."""


class Transaction:
    """What an operation gets: SQL in one transaction, with others' operations before and after it.

    In its SQL ``?`` is a parameter, ``{now}`` the present instant in seconds, ``{columns}`` what ``job_of`` reads;
    ``{for_update}``, ``{for_share}`` and ``{skip_locked}`` lock the rows of a query, where rows are locked.

    Args:
        connection: Its transaction has begun.
        driver: Whose SQL is spoken.
    """

    __slots__ = ("_connection", "driver", "messages")

    def __init__(self, connection: Connection, driver: Driver) -> None:
        self._connection = connection
        self.driver: Driver = driver
        self.messages: dict[str, None] = {}

    def run(self, sql: str, *parameters: Any) -> int:
        """Run a statement; return how many rows it has touched."""
        count: int = self._connection.execute(self._spoken(sql), parameters).rowcount
        return count

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a query, or a statement with ``RETURNING``, and return all rows."""
        found: list[tuple[Any, ...]] = self._connection.execute(self._spoken(sql), parameters).fetchall()
        return found

    def row(self, sql: str, *parameters: Any) -> tuple[Any, ...] | None:
        """Run a query and return its first row."""
        found = self.rows(sql, *parameters)
        return found[0] if found else None

    def now(self) -> float:
        """Return the present instant by the database's clock."""
        ((found,),) = self.rows("SELECT {now}")
        return float(found)

    def changed(self, job: str) -> None:
        """Notify everybody of this job when the transaction has been committed."""
        self.messages[job] = None

    def stop(self, job: str) -> None:
        """Let the server that runs this job break it off when the transaction has been committed."""
        self.messages[STOP + job] = None

    def wake(self) -> None:
        """Let other servers look for work when the transaction has been committed."""
        self.messages[WAKE] = None

    def call(self) -> None:
        """Let servers look for calls that are due when the transaction has been committed."""
        self.messages[CALL] = None

    def _spoken(self, sql: str) -> str:
        if "{" not in sql:
            return sql
        return _spoken(sql, self.driver.now, self.driver.locks_rows)


@lru_cache(maxsize=500)
def _spoken(sql: str, now: str, locks_rows: bool) -> str:
    locks = {"for_update": "FOR UPDATE", "for_share": "FOR SHARE", "skip_locked": "FOR UPDATE SKIP LOCKED"}
    for placeholder, text in locks.items():
        sql = sql.replace(f"{{{placeholder}}}", text if locks_rows else "")
    return sql.replace("{columns}", JOB_COLUMNS).replace("{now}", now)
