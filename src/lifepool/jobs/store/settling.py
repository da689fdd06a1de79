"""Operations that end an attempt, or a job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lifepool.jobs.errors import JobNotFound
from lifepool.jobs.records import JobState
from lifepool.jobs.rules import Counts, NextStep, next_step
from lifepool.jobs.store.parts import INLINE_BYTES, inline, store_parts
from lifepool.jobs.store.rows import failure_text, job_of

if TYPE_CHECKING:
    from lifepool.jobs.records import Job
    from lifepool.jobs.rules import Outcome
    from lifepool.jobs.store.drivers import Transaction


def settle(
    transaction: Transaction,
    server: str,
    job: str,
    token: int,
    outcome: Outcome,
) -> bool:
    """End an attempt, if this server still has the job by this claim.

    Args:
        transaction: Of the store.
        server: Who ran it.
        job: Its id.
        token: Of the claim.
        outcome: How it ended.

    Returns:
        Whether that is what the store has now. False: another server has taken it over, and this outcome is dropped.
    """
    row = transaction.row("SELECT state, owner, token FROM lifepool_jobs WHERE id = ? {for_update}", job)
    if row is None or row[2] != token:
        return False
    if row[0] != "running":  # the same outcome was stored before the connection was lost
        return row[1] is None
    if row[1] != server:
        return False
    end_attempt(transaction, job, outcome)
    return True


def end_attempt(transaction: Transaction, job: str, outcome: Outcome) -> None:
    """End the attempt of a job that runs: by the rules it is final now, or queued again."""
    row = transaction.row(
        """
        SELECT seq, attempts, max_attempts, failures, retries, cancel_requested, keep, on_done
        FROM lifepool_jobs WHERE id = ? AND state = 'running'
        """,
        job,
    )
    if row is None:
        return
    seq, attempts, max_attempts, failures, retries, cancel_requested, keep, on_done = row
    step = next_step(outcome.ending, Counts(attempts, max_attempts, failures, retries, bool(cancel_requested)))
    if step.state is JobState.QUEUED:
        _queue_again(transaction, seq, step, outcome)
    else:
        _end(transaction, seq, step, outcome, keep)
        _call_on_done(transaction, job, on_done)
    transaction.changed(job)


def _queue_again(transaction: Transaction, seq: int, step: NextStep, outcome: Outcome) -> None:
    delay = max(step.delay, outcome.delay)
    transaction.run(
        """
        UPDATE lifepool_jobs
        SET state = 'queued', owner = NULL, ready = ?, run_at = CASE WHEN ? > 0 THEN {now} + ? ELSE run_at END,
            attempts = ?, failures = ?, failure = COALESCE(?, failure), progress = NULL, version = version + 1
        WHERE seq = ?
        """,
        int(delay <= 0),
        delay,
        delay,
        step.attempts,
        step.failures,
        _text(outcome),
        seq,
    )


def _end(transaction: Transaction, seq: int, step: NextStep, outcome: Outcome, keep: float | None) -> None:
    result = outcome.result if step.state is JobState.SUCCEEDED else None
    transaction.run(
        """
        UPDATE lifepool_jobs
        SET state = ?, owner = NULL, attempts = ?, failures = ?, failure = ?, result = ?, result_size = ?,
            progress = COALESCE(?, progress), finished_at = {now}, expires_at = {now} + ?, version = version + 1
        WHERE seq = ?
        """,
        step.state.value,
        step.attempts,
        step.failures,
        _text(outcome),
        inline(result),
        None if result is None else len(result),
        outcome.progress,
        keep,
        seq,
    )
    if result is not None and len(result) > INLINE_BYTES:
        store_parts(transaction, seq, "result", result)


def _text(outcome: Outcome) -> str | None:
    return None if outcome.failure is None else failure_text(outcome.failure)


def _call_on_done(transaction: Transaction, job: str, on_done: str | None) -> None:
    """Put the calls that are due when a job has ended into their queue."""
    if on_done is None:
        return
    transaction.run("DELETE FROM lifepool_job_calls WHERE job = ?", job)  # those of before a retry
    for target in json.loads(on_done):
        transaction.run("INSERT INTO lifepool_job_calls (job, target, due) VALUES (?, ?, {now})", job, target)
    transaction.call()


def cancel(transaction: Transaction, job: str) -> Job:
    """Cancel a job: one that waits ends at once, one that runs is asked to stop, one that has ended stays.

    Raises:
        JobNotFound: If there is none.
    """
    rows: list[tuple[Any, ...]] = transaction.rows(
        """
        UPDATE lifepool_jobs
        SET state = 'cancelled', finished_at = {now}, expires_at = {now} + keep, version = version + 1
        WHERE id = ? AND state = 'queued' RETURNING on_done
        """,
        job,
    )
    if rows:
        _call_on_done(transaction, job, rows[0][0])
        transaction.changed(job)
    elif transaction.run(
        """
        UPDATE lifepool_jobs SET cancel_requested = 1, version = version + 1
        WHERE id = ? AND state = 'running' AND cancel_requested = 0
        """,
        job,
    ):
        transaction.stop(job)
        transaction.changed(job)
    row = transaction.row("SELECT {columns} FROM lifepool_jobs WHERE id = ?", job)
    if row is None:
        raise JobNotFound(job)
    return job_of(row)
