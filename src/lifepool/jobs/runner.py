"""A server's part: claim jobs while there is room, run them, keep the lease, take over what dead servers have left."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from lifepool.jobs.attempts import Attempt, RunsCalls, failure_of
from lifepool.jobs.errors import StoreError
from lifepool.jobs.rules import Ending, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from lifepool.jobs.records import ClaimedJob
    from lifepool.jobs.sealing import Sealer
    from lifepool.jobs.store.store import Store
    from lifepool.statistics import Readiness

logger: logging.Logger = logging.getLogger("lifepool")

#: The lease is renewed so many times in its length: four of them may fail.
HEARTBEATS_PER_LEASE = 5
#: Seconds between two looks at the progress of what runs.
PROGRESS_S = 0.25
#: Seconds after which it is looked again whether a pool that could not take jobs can.
_NOT_READY_S = 0.25
#: Seconds after which it is tried again to claim jobs.
_AGAIN_S = 1.0
#: Seconds between two attempts to store an outcome: the first, the longest.
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 5.0
#: Seconds that attempts have to end when they were broken off at the end of the server.
_STOP_S = 10.0


class RunningPool(RunsCalls, Protocol):
    """What the runner needs of a pool."""

    def readiness(self) -> Readiness:
        """Tell whether it can take work."""


class Runner:
    """Runs jobs of a store in a pool.

    Args:
        pool: It runs while this does.
        store: It is open while this runs.
        sealer: For arguments and results.
        max_running: Jobs at a time.
        lease: Seconds after which others take the jobs of this server over, if it does not renew its lease.
        sleep: Waits for so many seconds; tests have clocks of their own.
    """

    def __init__(
        self,
        pool: RunningPool,
        store: Store,
        sealer: Sealer,
        *,
        max_running: int,
        lease: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._store = store
        self._sealer = sealer
        self._max_running = max_running
        self._lease = lease
        self._sleep = sleep
        self._attempts: dict[str, Attempt] = {}
        self._active = 0  # of the attempts, those whose function has not ended
        self._unmatched: set[tuple[str, int]] = set()  # claims that only the store or only this server knew of
        self._work = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def room(self) -> int:
        """How many more jobs may start; none while too many outcomes wait for the store."""
        if self._stopping or len(self._attempts) - self._active >= self._max_running:
            return 0
        return self._max_running - self._active

    def wake(self) -> None:
        """Look for work."""
        self._work.set()

    def cancel(self, job: str) -> None:
        """Break a job off because it was cancelled, if it runs here."""
        if job in self._attempts:
            self._attempts[job].stop("cancelled")

    async def start(self) -> None:
        """Register, take over what dead servers have left, and begin to claim.

        Raises:
            StoreError: If the store can't be used.
        """
        await self._store.register(self._lease)
        await self._renew()
        self._loops = [asyncio.create_task(loop()) for loop in (self._claim_all, self._heartbeat, self._report_all)]
        self.wake()

    async def stop(self, timeout: float) -> None:
        """Claim nothing more, let what runs finish, and give back what does not within ``timeout`` seconds."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._loops[:1]:  # the one that claims
            await _ended(task)
        try:
            if self._runs:
                await asyncio.wait(self._runs, timeout=timeout)
        finally:
            for attempt in self._attempts.values():
                attempt.stop("stopping")
            if self._runs:
                await asyncio.wait(self._runs, timeout=_STOP_S)
            for task in (*self._loops[1:], *self._runs):
                await _ended(task)
            with suppress(StoreError):  # the lease ends by itself
                await self._store.unregister()

    # -- claiming -----------------------------------------------------------------------------------------------------

    async def _claim_all(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                while self.room and await self._claim():
                    pass
            except Exception as error:
                log_failure("no jobs can be claimed now", error)
                self._wake_in(_AGAIN_S)

    async def _claim(self) -> bool:
        """Claim once; whether to look again at once."""
        if not self._pool.readiness().ready:
            self._wake_in(_NOT_READY_S)
            return False
        claim = await self._store.claim(self.room)
        if claim is None:
            await self._register_again()
            return True
        for job in claim.jobs:
            self._begin(job)
        if claim.wait is not None:
            self._wake_in(claim.wait)
        return claim.again

    def _wake_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._timer is not None and not self._timer.cancelled() and loop.time() < self._timer.when() <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due, self.wake)

    # -- running ------------------------------------------------------------------------------------------------------

    def _begin(self, job: ClaimedJob) -> None:
        attempt = Attempt(job, self._pool, self._sealer)
        self._attempts[job.id] = attempt
        self._active += 1
        self._spawn(self._run(attempt))

    async def _run(self, attempt: Attempt) -> None:
        job = attempt.job
        try:
            try:
                outcome = await attempt.run()
            finally:
                self._active -= 1
                self.wake()
            if attempt.reason != "taken":
                await self._settle(attempt, outcome)
        finally:
            if self._attempts.get(job.id) is attempt:
                del self._attempts[job.id]
            self.wake()

    async def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Store the outcome, however long the store can't be used."""
        job, pause = attempt.job, _FIRST_RETRY_S
        while attempt.reason != "taken":
            try:
                if not await self._store.settle(job.id, job.token, outcome):
                    logger.warning("what job %s (%s) came to is dropped: another server has it", job.id, job.name)
                return
            except Exception as error:
                log_failure(f"what job {job.id} ({job.name}) came to can't be stored yet", error)
                if attempt.reason == "stopping":  # it was broken off: there is nothing to lose
                    return
                if not isinstance(error, StoreError):  # a bug of ours; the same again would come to the same
                    outcome = Outcome(Ending.PERMANENT_FAILURE, failure=failure_of("not-storable", error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_RETRY_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def _report_all(self) -> None:
        while True:
            await self._sleep(PROGRESS_S)
            reports = {
                job: progress
                for job, attempt in self._attempts.items()
                if (progress := attempt.new_progress()) is not None
            }
            if reports:
                try:
                    await self._store.report(reports)
                except Exception as error:  # the next one will be stored
                    log_failure("the progress of jobs can't be stored now", error)

    # -- the lease ----------------------------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        while True:
            await self._sleep(self._lease / HEARTBEATS_PER_LEASE)
            self._store.check_signals()
            try:
                await self._renew()
            except Exception as error:
                log_failure("the lease of this server's jobs can't be renewed now", error)
            self.wake()

    async def _renew(self) -> None:
        renewal = await self._store.renew(self._lease)
        if renewal is None:
            await self._register_again()
            return
        if renewal.requeued:
            logger.warning("took over %d job(s) of servers that have ended", renewal.requeued)
        for job in renewal.cancelled:
            self.cancel(job)
        here = {(job, attempt.job.token) for job, attempt in self._attempts.items()}
        there = set(renewal.owned.items())
        again = (here ^ there) & self._unmatched  # once may be because one of them is just being claimed or settled
        self._unmatched = here ^ there
        for job, _ in again & here:
            self._attempts[job].stop("taken")
        for job, token in again & there:  # claimed by a transaction whose answer never came
            await self._store.settle(job, token, Outcome(Ending.RELEASED))

    async def _register_again(self) -> None:
        """Enter this server again, and break off what runs: others have taken it over."""
        logger.warning("this server stood still for too long: its %d job(s) are others' now", len(self._attempts))
        for attempt in self._attempts.values():
            attempt.stop("taken")
        await self._store.register(self._lease)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def log_failure(what: str, error: Exception) -> None:
    """Log that something can't be done now: in a line if the store is at fault, else, for a bug, with the traceback."""
    logger.warning("%s: %s", what, error, exc_info=None if isinstance(error, StoreError) else error)
