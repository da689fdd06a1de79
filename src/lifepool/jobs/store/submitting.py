"""Operations that bring jobs into the store, or back into the queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lifepool.jobs.errors import IdempotencyConflict, JobNotFound, StoreUnavailable, WrongJobState
from lifepool.jobs.records import JobState
from lifepool.jobs.store.parts import INLINE_BYTES, inline, store_parts
from lifepool.jobs.store.rows import job_of

if TYPE_CHECKING:
    from lifepool.jobs.records import Job, NewJob
    from lifepool.jobs.store.drivers import Transaction

#: A job that holds the key may expire between two statements; more often than this it does not.
_TRIES = 3


def submit(transaction: Transaction, new: NewJob, *, wake: bool) -> Job:
    """Store a job, or return the one that has its idempotency key.

    Args:
        transaction: Of the store.
        new: The job.
        wake: Whether other servers are to look for it.

    Raises:
        IdempotencyConflict: If that is another call.
    """
    for _ in range(_TRIES):
        row = _inserted(transaction, new)
        if row is not None:
            seq, *columns = row
            if len(new.arguments) > INLINE_BYTES:
                store_parts(transaction, seq, "arguments", new.arguments)
            for tag in new.tags:
                transaction.run("INSERT INTO lifepool_job_tags (tag, seq) VALUES (?, ?)", tag, seq)
            if wake:
                transaction.wake()
            return job_of(tuple(columns))
        same = transaction.row("SELECT {columns} FROM lifepool_jobs WHERE id = ?", new.id)
        if same is not None:  # stored before the connection was lost
            return job_of(same)
        known = transaction.row(
            "SELECT payload_hash, {columns} FROM lifepool_jobs WHERE idempotency_key = ?", new.idempotency_key
        )
        if known is not None:
            payload_hash, *columns = known
            job = job_of(tuple(columns), is_new=False)
            if payload_hash != new.payload_hash:
                raise IdempotencyConflict(new.idempotency_key or "", job.id)
            return job
    raise StoreUnavailable("the idempotency key appears and disappears", hint="submit it again")


def _inserted(transaction: Transaction, new: NewJob) -> tuple[Any, ...] | None:
    rows = transaction.rows(
        """
        INSERT INTO lifepool_jobs (
            id, state, ready, priority, name, function, payload_hash, idempotency_key, limit_key, max_of_key, tags,
            timeout, retries, max_attempts, keep, on_done, created_at, run_at, arguments
        ) VALUES (?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {now}, ?, ?)
        ON CONFLICT DO NOTHING RETURNING seq, {columns}
        """,
        new.id,
        int(new.run_at is None),
        new.priority,
        new.name,
        new.function,
        new.payload_hash,
        new.idempotency_key,
        new.limit_key,
        new.limit,
        json.dumps(new.tags),
        new.timeout,
        new.retries,
        new.max_attempts,
        new.keep,
        json.dumps(new.on_done) if new.on_done else None,
        new.run_at,
        inline(new.arguments),
    )
    return rows[0] if rows else None


def retry(transaction: Transaction, job_id: str) -> Job:
    """Queue a job again that has failed, was lost or cancelled; its attempts are counted anew.

    Raises:
        JobNotFound: If there is none.
        WrongJobState: If it has not ended so.
    """
    rows = transaction.rows(
        """
        UPDATE lifepool_jobs
        SET state = 'queued', ready = 1, attempts = 0, failures = 0, cancel_requested = 0, run_at = {now},
            started_at = NULL, finished_at = NULL, expires_at = NULL, progress = NULL, version = version + 1
        WHERE id = ? AND state IN ('failed', 'lost', 'cancelled') RETURNING {columns}
        """,
        job_id,
    )
    if rows:
        transaction.changed(job_id)
        transaction.wake()
        return job_of(rows[0])
    row = transaction.row("SELECT state FROM lifepool_jobs WHERE id = ?", job_id)
    if row is None:
        raise JobNotFound(job_id)
    state = JobState(row[0])
    raise WrongJobState(job_id, state, "only what has failed, was lost or cancelled can be retried")
