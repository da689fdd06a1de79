"""What becomes of a job when an attempt has ended: decided here, without clock and store."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lifepool.jobs.records import JobFailure, JobState

#: Seconds before the first repetition of a job that has failed; doubled each time, up to the limit.
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 300.0
#: Starts that are allowed beyond the retries, for servers and workers that die.
SPARE_ATTEMPTS = 3


class Ending(enum.Enum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # it raised, or took too long: that is what retries are for
    PERMANENT_FAILURE = "permanent failure"  # it can't be called or stored: another attempt would end the same way
    CANCELLED = "cancelled"  # it was asked to stop, and did
    CRASHED = "crashed"  # its worker or its server died
    RELEASED = "released"  # it is given back: the server stops, or has no worker for it. Not counted


@dataclass(frozen=True, slots=True)
class Outcome:
    """An attempt that has ended.

    Attributes:
        ending: How.
        result: The sealed result, if it has succeeded.
        failure: Why it has not.
        delay: Seconds before the job may start again, at least, if it does.
        progress: What it last reported, as it is stored.
    """

    ending: Ending
    result: bytes | None = None
    failure: JobFailure | None = None
    delay: float = 0.0
    progress: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What is known of a job whose attempt has ended, that attempt included."""

    attempts: int
    max_attempts: int
    failures: int
    retries: int
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class NextStep:
    """What follows.

    Attributes:
        state: Final, or queued again.
        delay: Seconds before it may start again.
        attempts: What is counted now.
        failures: Likewise.
    """

    state: JobState
    delay: float
    attempts: int
    failures: int


def next_step(ending: Ending, counts: Counts) -> NextStep:
    """Decide what becomes of the job."""
    attempts, failures = counts.attempts, counts.failures
    if ending is Ending.SUCCEEDED:
        return NextStep(JobState.SUCCEEDED, 0.0, attempts, failures)
    if ending is Ending.RELEASED:
        attempts -= 1
    if ending in (Ending.FAILED, Ending.PERMANENT_FAILURE):
        failures += 1
    if counts.cancel_requested or ending is Ending.CANCELLED:
        return NextStep(JobState.CANCELLED, 0.0, attempts, failures)
    if ending is Ending.RELEASED:
        return NextStep(JobState.QUEUED, 0.0, attempts, failures)
    if ending is Ending.CRASHED:
        state = JobState.QUEUED if attempts < counts.max_attempts else JobState.LOST
        return NextStep(state, 0.0, attempts, failures)
    if ending is Ending.FAILED and failures <= counts.retries and attempts < counts.max_attempts:
        return NextStep(JobState.QUEUED, min(FIRST_DELAY_S * 2 ** (failures - 1), MAX_DELAY_S), attempts, failures)
    return NextStep(JobState.FAILED, 0.0, attempts, failures)
