"""One attempt at a job: run its function in the pool, and say how that ended."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lifepool.errors import (
    BackendError,
    BackendUnsupported,
    InternalError,
    PayloadTooLarge,
    PoolClosed,
    QueueFull,
    TaskNotPicklable,
    TaskTimeout,
    WorkerLost,
    WorkerStartError,
)
from lifepool.jobs.calls import JobCall
from lifepool.jobs.errors import JobNotCallable, JobNotStorable
from lifepool.jobs.large import LARGE, in_thread_if
from lifepool.jobs.progress import stored
from lifepool.jobs.records import JobFailure
from lifepool.jobs.rules import Ending, Outcome

if TYPE_CHECKING:
    from lifepool.jobs.records import ClaimedJob
    from lifepool.jobs.sealing import Sealer
    from lifepool.jobs.values import Encoding

#: Why an attempt is broken off: somebody has cancelled the job, the server stops, or it is another server's job now.
StopReason = Literal["cancelled", "stopping", "taken"]

#: Characters of an error's text and of a traceback that are stored.
_MAX_MESSAGE, _MAX_TRACEBACK = 4_000, 40_000
#: Seconds after which a job is tried again for which there was no worker.
NO_WORKER_S = 1.0
#: Seconds between two tries to get into a full queue: at least, at most.
_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.02, 1.0


class Handle(Protocol):
    """What an attempt needs of a task's handle."""

    @property
    def progress(self) -> object:
        """What the function last reported."""

    def cancel(self) -> bool:
        """Take the task back."""

    def __await__(self) -> Any:
        """Wait for its answer."""


class RunsCalls(Protocol):
    """What an attempt needs of a pool."""

    def submit(self, fn: Any, /, *, timeout: float | None) -> Handle:
        """Queue a call."""


class Attempt:
    """One attempt.

    Args:
        job: What was claimed.
        pool: Runs it.
        sealer: Checks the arguments, and signs the result.
    """

    def __init__(self, job: ClaimedJob, pool: RunsCalls, sealer: Sealer) -> None:
        self.job = job
        self._pool = pool
        self._sealer = sealer
        self._handle: Handle | None = None
        self._stopped = asyncio.Event()
        self._reported: object = None
        self.reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        """Break it off; the first reason counts."""
        if self.reason is None:
            self.reason = reason
            self._stopped.set()
            if self._handle is not None:
                self._handle.cancel()

    def new_progress(self) -> str | None:
        """Return the progress that is to be stored, if it has changed since this was last called."""
        reported = None if self._handle is None else self._handle.progress
        if reported is self._reported:
            return None
        self._reported = reported
        return stored(reported)

    async def run(self) -> Outcome:
        """Run it to its end; never raises."""
        try:
            outcome = await self._run()
        except asyncio.CancelledError:
            # Nobody cancels this task but through stop(): else it is the pool, which drains.
            outcome = Outcome(Ending.CANCELLED if self.reason == "cancelled" else Ending.RELEASED)
        except Exception as error:
            outcome = _outcome_of(error)
        progress = self.new_progress()
        if progress is not None:
            outcome = Outcome(outcome.ending, outcome.result, outcome.failure, outcome.delay, progress)
        return outcome

    async def _run(self) -> Outcome:
        job, sealer = self.job, self._sealer
        is_large = len(job.arguments) > LARGE
        encoding, body = await in_thread_if(is_large, sealer.open, "arguments", job.id, job.function, job.arguments)
        encoded = await self._called(JobCall(job.function, encoding, bytes(body), may_pickle=sealer.signs))
        if encoded is None:
            return Outcome(Ending.CANCELLED if self.reason == "cancelled" else Ending.RELEASED)
        is_large = len(encoded[1]) > LARGE
        result = await in_thread_if(is_large, sealer.seal, "result", job.id, job.function, *encoded)
        return Outcome(Ending.SUCCEEDED, result)

    async def _called(self, call: JobCall) -> tuple[Encoding, bytes] | None:
        """Call it, as soon as the pool has room; None if it was stopped before."""
        timeout = math.inf if self.job.timeout is None else self.job.timeout
        while self.reason is None:
            try:
                self._handle = self._pool.submit(call, timeout=timeout)
                encoded: tuple[Encoding, bytes] = await self._handle
                return encoded
            except QueueFull as error:
                if _is_remote(error):
                    raise
                pause = min(max(error.retry_after, _LEAST_PAUSE_S), _MOST_PAUSE_S)
            except TaskTimeout as error:
                if error.started or _is_remote(error):
                    raise
                pause = _LEAST_PAUSE_S
            try:
                async with asyncio.timeout(pause):
                    await self._stopped.wait()
            except TimeoutError:
                continue
        return None


def _is_remote(error: BaseException) -> bool:
    """Whether the function itself has raised it, in the worker: its traceback is the cause then."""
    return _traceback_of(error) is not None


def _traceback_of(error: BaseException) -> str | None:
    text = getattr(error.__cause__, "text", None)
    return text[-_MAX_TRACEBACK:] if isinstance(text, str) else None


def _outcome_of(error: Exception) -> Outcome:
    if isinstance(error, JobNotCallable):
        return Outcome(Ending.PERMANENT_FAILURE, failure=failure_of("not-callable", error))
    if isinstance(error, (JobNotStorable, TaskNotPicklable, PayloadTooLarge, BackendUnsupported)):
        return Outcome(Ending.PERMANENT_FAILURE, failure=failure_of("not-storable", error))
    if not _is_remote(error):
        if isinstance(error, WorkerLost):
            return Outcome(Ending.CRASHED, failure=failure_of("worker-lost", error))
        if isinstance(error, (PoolClosed, WorkerStartError, BackendError)):
            return Outcome(Ending.RELEASED, failure=failure_of("no-worker", error), delay=NO_WORKER_S)
        if isinstance(error, (TaskTimeout, InternalError)):
            reason = "timeout" if isinstance(error, TaskTimeout) else "raised"
            return Outcome(Ending.FAILED, failure=failure_of(reason, error))
    return Outcome(Ending.FAILED, failure=failure_of("raised", error))


def failure_of(reason: str, error: BaseException) -> JobFailure:
    """Describe an error."""
    cls = type(error)
    try:
        text = str(error)
    except Exception:  # somebody's own __str__
        text = "(its text can't be shown)"
    return JobFailure(reason, f"{cls.__module__}.{cls.__qualname__}", text[:_MAX_MESSAGE], _traceback_of(error))
