"""Rows of the jobs' table, as records."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from lifepool.jobs.progress import loaded
from lifepool.jobs.records import Job, JobFailure, JobState

#: In the order in which ``job_of`` reads them.
JOB_COLUMNS = (
    "id, name, function, state, attempts, max_attempts, failures, retries, progress, failure, created_at, run_at, "
    "started_at, finished_at, expires_at, timeout, priority, limit_key, tags, idempotency_key, cancel_requested, "
    "version, result_size"
)


def job_of(row: tuple[Any, ...], *, is_new: bool = True) -> Job:
    """Make a job of a row of ``JOB_COLUMNS``."""
    (
        id, name, function, state, attempts, max_attempts, failures, retries, progress, failure, created_at, run_at,
        started_at, finished_at, expires_at, timeout, priority, limit_key, tags, idempotency_key, cancel_requested,
        version, result_size,
    ) = row  # fmt: skip
    return Job(
        id=id,
        name=name,
        function=function,
        state=JobState(state),
        attempts=attempts,
        max_attempts=max_attempts,
        failures=failures,
        retries=retries,
        progress=loaded(progress),
        failure=None if failure is None else JobFailure(**json.loads(failure)),
        created_at=created_at,
        run_at=run_at,
        started_at=started_at,
        finished_at=finished_at,
        expires_at=expires_at,
        timeout=timeout,
        priority=priority,
        limit_key=limit_key,
        tags=tuple(json.loads(tags)),
        idempotency_key=idempotency_key,
        cancel_requested=bool(cancel_requested),
        version=version,
        result_size=result_size,
        is_new=is_new,
    )


def failure_text(failure: JobFailure) -> str:
    """Return the text that is stored for a failure."""
    return json.dumps(asdict(failure))
