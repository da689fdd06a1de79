"""A thread that owns a connection. What waits when it looks is done in one transaction (group commit)."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lifepool.errors import PoolError
from lifepool.jobs.errors import StoreError, StoreUnavailable
from lifepool.jobs.store.drivers import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lifepool.jobs.store.drivers import Connection, Driver

logger: logging.Logger = logging.getLogger("lifepool")

T = TypeVar("T")

#: Operations in one transaction at most: it is to take milliseconds.
MAX_BATCH = 500
#: Seconds between two attempts to reach a database.
RETRY_S = 0.1


class Request(NamedTuple):
    """An operation that waits for its turn."""

    operation: Callable[[Transaction], Any]
    durable: bool
    future: asyncio.Future[Any]


class BatchThread:
    """Runs operations in a thread of its own, in the order in which they come.

    An operation may be run again if the connection was lost, also when its first run was committed: it must come out
    the same.

    Args:
        driver: Of the database.
        read_only: Whether its operations only read.
        patience: Seconds for which operations wait for a database that can't be reached.
        on_messages: Called on the event loop with the messages of each transaction, before its operations return.
        name: Of the thread.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        read_only: bool,
        patience: float,
        on_messages: Callable[[Sequence[str]], None],
        name: str,
    ) -> None:
        self._driver = driver
        self._read_only = read_only
        self._patience = patience
        self._on_messages = on_messages
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def send(self, operation: Callable[[Transaction], T], *, durable: bool = False) -> asyncio.Future[T]:
        """Queue an operation and return the future of what it returns.

        Args:
            operation: Called in the thread. A ``PoolError`` that it raises before it changes anything is its answer.
            durable: Whether it must survive a power cut; the end of the server it survives in any case.

        Raises:
            StoreError: From the future, if it can't be done; nothing of it was stored then, unless the connection was
                lost while it was committed.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Request(operation, durable, future))
        return future

    async def close(self) -> None:
        """Do what is queued, close the connection, end the thread. What can't be reached is not waited for."""
        self._closing.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        ends = False
        while not ends:
            batch, ends = self._next_batch()
            if batch:
                self._perform(batch)
        self._disconnect()

    def _next_batch(self) -> tuple[list[Request], bool]:
        """Wait for an operation; return it with those that have come since, and whether these are the last."""
        batch: list[Request] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) >= MAX_BATCH:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _perform(self, batch: list[Request]) -> None:
        """Do a batch; wait for a database that can't be reached; deliver what came out."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                outcomes, messages = self._transact(batch)
                self._deliver(batch, outcomes, messages)
            except Exception as error:
                found = error if isinstance(error, StoreError) else self._driver.error_of(error)
                self._recover(found)
                if isinstance(found, StoreUnavailable) and time.monotonic() < deadline:
                    if not self._closing.wait(RETRY_S):
                        continue
                elif found is None and len(batch) > 1:  # one of them is at fault
                    for request in batch:
                        self._perform([request])
                    return
                self._deliver(batch, [found or error] * len(batch), ())
            return

    def _transact(self, batch: list[Request]) -> tuple[list[Any], list[str]]:
        if self._connection is None:
            self._connection = self._driver.connect(read_only=self._read_only)
        connection = self._connection
        connection.begin(durable=any(request.durable for request in batch))
        transaction = Transaction(connection, self._driver)
        outcomes = []
        for request in batch:
            try:
                outcomes.append(request.operation(transaction))
            except PoolError as error:
                outcomes.append(error)
        messages = list(transaction.messages)
        connection.commit(messages)
        return outcomes, messages

    def _recover(self, error: StoreError | None) -> None:
        if self._connection is None:
            return
        self._connection.rollback()
        if error is not None:  # a new connection: who knows what state this one is in
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _deliver(self, batch: list[Request], outcomes: list[Any], messages: Sequence[str]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, batch, outcomes, messages)
        except RuntimeError:  # the event loop is closed, and nobody waits any more
            logger.debug("a batch of the job store had nobody to return to")

    def _settle(self, batch: list[Request], outcomes: list[Any], messages: Sequence[str]) -> None:
        """Set the futures; on the event loop."""
        if messages:
            self._on_messages(messages)
        for request, outcome in zip(batch, outcomes, strict=True):
            future = request.future
            if future.done():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
