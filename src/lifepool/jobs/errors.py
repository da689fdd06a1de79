"""What can go wrong with jobs and their store.

::

    JobError (a PoolError)
    ├── JobNotFound (also LookupError)      .job_id: there is none, or not any more    404
    ├── IdempotencyConflict                 the .key was used for another call .job_id 409
    ├── WrongJobState                       .job_id .state                             409
    ├── JobNotStorable (also TypeError)     .path: JSON can't carry it                 500
    ├── JobNotCallable                      this version has no such function          500
    ├── JobsNotStarted (also RuntimeError)  no lifespan, no ``async with jobs``        503
    └── StoreError                          the store, not the job, is at fault
        ├── StoreUnavailable                locked, or the database can't be reached   503
        ├── StoreFull                       no space is left                           507
        └── StoreCorrupt                    damaged, no database, or a newer schema    500

Workers import this module: keep it light.
"""

from __future__ import annotations

from lifepool.errors import PoolError


class JobError(PoolError):
    """Base of the errors of jobs."""


class JobNotFound(JobError, LookupError):
    """There is no such job: it never was, or it has expired.

    Attributes:
        job_id: What was asked for.
    """

    status_hint = 404

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id[:100]!r}")
        self.job_id = job_id


class IdempotencyConflict(JobError):
    """The idempotency key was used before, with another function or other arguments; nothing was stored.

    Attributes:
        key: The key.
        job_id: The job that has it.
    """

    status_hint = 409
    hint = "use a new key for a new call; a key is free again when its job has expired"

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(f"the idempotency key {key[:100]!r} belongs to job {job_id}, which is another call")
        self.key = key
        self.job_id = job_id


class WrongJobState(JobError):
    """The job can't do this in its state, such as be retried after it has succeeded.

    Attributes:
        job_id: The job.
        state: Its state.
    """

    status_hint = 409

    def __init__(self, job_id: str, state: str, what: str) -> None:
        super().__init__(f"job {job_id} is {state}: {what}")
        self.job_id = job_id
        self.state = state


class JobNotStorable(JobError, TypeError):
    """The function, an argument or the result can't be stored.

    Attributes:
        path: The part of it, such as ``args[0]['when']``.
    """

    hint = "send plain data; or set LIFEPOOL_SECRET: what JSON can't carry is pickled and signed then"

    def __init__(self, path: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path} can't be stored: {reason}", hint=hint)
        self.path = path


class JobNotCallable(JobError):
    """What was stored can't be called here: its function is gone, or its arguments can't be read any more."""

    hint = "deploy a version that has it, then retry the job"


class JobsNotStarted(JobError, RuntimeError):
    """The jobs are not started, or have ended."""

    status_hint = 503
    hint = "use FastAPI(lifespan=jobs.lifespan), or 'async with jobs:'"

    def __init__(self, message: str = "the jobs are not started") -> None:
        super().__init__(message)


class StoreError(JobError):
    """The store is at fault. What was accepted before is still in it."""


class StoreUnavailable(StoreError):
    """The store can't be reached now, or another process keeps it locked."""

    status_hint = 503


class StoreFull(StoreError):
    """There is no space left. Nothing of this call was stored; what was accepted before is."""

    status_hint = 507
    hint = "free some space: what runs goes on, and its results are stored as soon as there is room"


class StoreCorrupt(StoreError):
    """The database is damaged, is no database, or was made by a newer version. Nothing in it was changed."""
