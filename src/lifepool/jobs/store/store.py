"""``Store``: what the rest of the package does with the database, without blocking the event loop."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lifepool.jobs.errors import JobsNotStarted
from lifepool.jobs.store import calling, claiming, overview, reading, settling, submitting
from lifepool.jobs.store.batches import BatchThread
from lifepool.jobs.store.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lifepool.jobs.records import Job, JobQuery, NewJob
    from lifepool.jobs.rules import Outcome
    from lifepool.jobs.store.calling import DueCall
    from lifepool.jobs.store.claiming import Claim, Renewal
    from lifepool.jobs.store.drivers import Driver, Signals, Transaction

T = TypeVar("T")

#: Seconds for which an operation waits for a database that can't be reached, before it is an error.
PATIENCE_S = 5.0


class Store:
    """The jobs in a database.

    Args:
        driver: Of the database.
        server: The id of this server: unlike any other's, and another one after each start.
        on_message: Called on the event loop with the id of each job that has changed, here or in another process, and
            with ``drivers.WAKE`` if there may be work.
    """

    def __init__(self, driver: Driver, server: str, on_message: Callable[[str], None]) -> None:
        self.server = server
        self._driver = driver
        self._on_message = on_message
        self._writer: BatchThread | None = None
        self._reader: BatchThread | None = None
        self._signals: Signals | None = None

    async def open(self) -> None:
        """Connect, bring the schema to this version's, and listen.

        Raises:
            StoreError: If the database can't be used.
        """
        self._writer = self._thread("writer", read_only=False)
        try:
            await self._writer.send(migrate, durable=True)
            self._signals = self._driver.signals(self.server)
            try:
                self._signals.open(self._on_message)
            except OSError as error:
                raise self._driver.error_of(error) or error from error
            self._reader = self._thread("reader", read_only=True)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Do what is queued, then close all. May be called twice."""
        if self._signals is not None:
            self._signals.close()
        threads = [thread for thread in (self._reader, self._writer) if thread is not None]
        self._signals = self._reader = self._writer = None
        for thread in threads:
            await asyncio.shield(thread.close())

    def check_signals(self) -> None:
        """See to it that this server hears of others."""
        if self._signals is not None:
            self._signals.check()

    # -- jobs -----------------------------------------------------------------------------------------------------

    async def submit(self, new: NewJob, *, wake: bool) -> Job:
        """Store a job; durable when this returns. See ``submitting.submit``."""
        return await self._write(partial(submitting.submit, new=new, wake=wake), durable=True)

    async def retry(self, job: str) -> Job:
        """Queue a job again. See ``submitting.retry``."""
        return await self._write(partial(submitting.retry, job_id=job), durable=True)

    async def cancel(self, job: str) -> Job:
        """Cancel a job. See ``settling.cancel``."""
        return await self._write(partial(settling.cancel, job=job), durable=True)

    async def get(self, job: str) -> Job:
        """Return a job without its result. See ``reading.get``."""
        return await self._read(partial(reading.get, job_id=job))

    async def get_with_result(self, job: str) -> tuple[Job, bytes | None]:
        """Return a job and its sealed result. See ``reading.get_with_result``."""
        return await self._read(partial(reading.get_with_result, job_id=job))

    async def result_part(self, job: str, part: int) -> bytes:
        """Return a part of a sealed result. See ``reading.result_part``."""
        return await self._read(partial(reading.result_part, job_id=job, part=part))

    async def find(self, query: JobQuery) -> list[tuple[int, Job]]:
        """Return jobs. See ``reading.find``."""
        return await self._read(partial(reading.find, query=query))

    async def counts(self) -> tuple[dict[str, int], float | None]:
        """Count jobs. See ``reading.counts``."""
        return await self._read(reading.counts)

    async def overview(self) -> overview.Overview:
        """Look at what is going on. See ``overview.overview``."""
        return await self._read(overview.overview)

    async def calls_of(self, job: str) -> list[tuple[str, int, str | None, bool]]:
        """Return the calls of a job that have not worked yet. See ``calling.calls_of``."""
        return await self._read(partial(calling.calls_of, job=job))

    # -- as a server ----------------------------------------------------------------------------------------------

    async def register(self, lease: float) -> None:
        """Enter this server. See ``claiming.register``."""
        await self._write(partial(claiming.register, server=self.server, lease=lease))

    async def unregister(self) -> None:
        """Take this server out. See ``claiming.unregister``."""
        await self._write(partial(claiming.unregister, server=self.server))

    async def claim(self, room: int) -> Claim | None:
        """Take jobs. See ``claiming.claim``."""
        return await self._write(partial(claiming.claim, server=self.server, room=room))

    async def renew(self, lease: float) -> Renewal | None:
        """Renew the lease and look after what others have left. See ``claiming.renew``."""
        return await self._write(partial(claiming.renew, server=self.server, lease=lease), durable=True)

    async def report(self, reports: dict[str, str]) -> None:
        """Store the progress of jobs. See ``claiming.report``."""
        await self._write(partial(claiming.report, server=self.server, reports=reports))

    async def settle(self, job: str, token: int, outcome: Outcome) -> bool:
        """End an attempt. See ``settling.settle``."""
        operation = partial(settling.settle, server=self.server, job=job, token=token, outcome=outcome)
        return await self._write(operation, durable=self._driver.syncs_outcomes)

    async def claim_calls(self, room: int) -> tuple[list[DueCall], float | None]:
        """Take calls that are due. See ``calling.claim_calls``."""
        return await self._write(partial(calling.claim_calls, server=self.server, room=room))

    async def end_call(self, call: DueCall, failure: str | None) -> None:
        """End a call. See ``calling.end_call``."""
        await self._write(partial(calling.end_call, server=self.server, call=call, failure=failure))

    # -- inside ---------------------------------------------------------------------------------------------------

    def _thread(self, role: str, *, read_only: bool) -> BatchThread:
        return BatchThread(
            self._driver,
            read_only=read_only,
            patience=PATIENCE_S,
            on_messages=self._pass_on,
            name=f"lifepool-jobs-{role}",
        )

    def _pass_on(self, messages: Sequence[str]) -> None:
        for message in messages:
            self._on_message(message)

    async def _write(self, operation: Callable[[Transaction], T], *, durable: bool = False) -> T:
        if self._writer is None:
            raise JobsNotStarted
        return await self._writer.send(operation, durable=durable)

    async def _read(self, operation: Callable[[Transaction], T]) -> T:
        if self._reader is None:
            raise JobsNotStarted
        return await self._reader.send(operation)
