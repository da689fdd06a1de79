"""What is known of a job: frozen records, as the store keeps them and as users get them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any


class JobState(enum.StrEnum):
    """Where a job is. It compares equal to its name: ``job.state == "succeeded"``."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Whether the job stays as it is, unless it is retried."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


#: Those of the dead letters: jobs that have ended without what was asked for.
DEAD = (JobState.FAILED, JobState.LOST)


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is, as it last said with ``report_progress``.

    Attributes:
        done: What is done, in ``unit``.
        total: What there is to do, if that is known.
        message: For people.
        unit: Of ``done`` and ``total``, such as ``"bytes"``.
    """

    done: float
    total: float | None = None
    message: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job, or its last attempt, has not succeeded.

    Attributes:
        reason: ``"raised"``, ``"timeout"``, ``"not-callable"``, ``"not-storable"``, ``"worker-lost"`` or
            ``"server-lost"``.
        type: The class of the exception, as in ``"builtins.ValueError"``.
        message: Its text.
        traceback: The worker's traceback, if there is one.
    """

    reason: str
    type: str
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that is to be stored. Durations are in seconds, instants in seconds since the epoch.

    Attributes:
        id: Made before it is stored, so that storing it again after a lost connection changes nothing.
        name: What people call it.
        function: The import path, as in ``"package.module:function"``.
        arguments: The sealed arguments.
        payload_hash: Tells calls apart for the idempotency key.
        idempotency_key: Of all jobs with the same one only the first is stored.
        timeout: Of each attempt; None: no limit.
        retries: How often it runs again after it has failed.
        max_attempts: How often it may be started in all.
        keep: How long it stays after it has ended; None: for ever.
        priority: Higher goes first.
        run_at: Not before; None: now.
        limit_key: Of the jobs with the same one only ``limit`` run at a time.
        limit: See ``limit_key``.
        tags: For filters.
        on_done: Import paths and URLs that are called when it has ended.
    """

    id: str
    name: str
    function: str
    arguments: bytes = field(repr=False)
    payload_hash: str
    idempotency_key: str | None = None
    timeout: float | None = None
    retries: int = 0
    max_attempts: int = 3
    keep: float | None = None
    priority: int = 0
    run_at: float | None = None
    limit_key: str | None = None
    limit: int = 1
    tags: tuple[str, ...] = ()
    on_done: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was when the store was asked. Instants are seconds since the epoch.

    Attributes:
        id: Its id; nobody can guess it.
        name: What people call it: the function's name, unless it was given another.
        function: Its import path.
        state: Where it is.
        attempts: How often it was started, the present attempt included.
        max_attempts: How often it may be started.
        failures: Attempts that have failed or timed out.
        retries: How many of them are followed by another attempt.
        progress: What it last reported, in its last attempt.
        failure: Why it has not succeeded, or why its last attempt has not.
        created_at: When it was accepted.
        run_at: Before which it does not start, if that was asked for or it waits to be tried again.
        started_at: When its last attempt began.
        finished_at: When it ended.
        expires_at: When it is deleted; None: never, or it has not ended.
        timeout: Seconds for each attempt.
        priority: As given.
        limit_key: As given.
        tags: As given.
        idempotency_key: As given.
        cancel_requested: Whether it was cancelled while it ran, and has not ended yet.
        version: Counts its changes.
        result_size: Bytes of its stored result.
        is_new: Whether the ``submit`` that returned it has stored it; False if its idempotency key was known.
        result: What the function returned, if it has succeeded; ``jobs.get`` and ``jobs.wait`` bring it.
    """

    id: str
    name: str
    function: str
    state: JobState
    attempts: int
    max_attempts: int
    failures: int
    retries: int
    progress: JobProgress | None
    failure: JobFailure | None
    created_at: float
    run_at: float | None
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    timeout: float | None
    priority: int
    limit_key: str | None
    tags: tuple[str, ...]
    idempotency_key: str | None
    cancel_requested: bool
    version: int
    result_size: int | None
    is_new: bool = True
    result: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some of the jobs, the newest first.

    Attributes:
        jobs: Without their results.
        next: The cursor of what follows; None if nothing does.
    """

    jobs: tuple[Job, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs are asked for; what is None or empty does not matter.

    Attributes:
        states: In one of these states.
        name: Of this name.
        tag: With this tag.
        before: The cursor from which on.
        limit: How many at most.
    """

    states: tuple[JobState, ...] = ()
    name: str | None = None
    tag: str | None = None
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this server runs now.

    Attributes:
        id: Its id.
        token: The number of this claim: whoever has an older one can't settle the job any more.
        name: Of the job.
        function: The import path.
        timeout: Seconds for this attempt.
        attempt: Which attempt it is, from 1.
        arguments: The sealed arguments.
    """

    id: str
    token: int
    name: str
    function: str
    timeout: float | None
    attempt: int
    arguments: bytes = field(repr=False)
