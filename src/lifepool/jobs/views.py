"""Jobs as clients see them: the models of the HTTP interface."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

try:
    from fastapi.encoders import jsonable_encoder
    from pydantic import BaseModel, Field
    from pydantic_core import to_json
except ImportError as _error:  # pragma: no cover - needs an environment without FastAPI
    raise ImportError("job_router needs FastAPI: pip install 'lifepool[jobs]'") from _error

import base64

from lifepool.jobs.errors import JobNotStorable
from lifepool.jobs.records import Job, JobState

#: Bytes of a stored result that is shown within the job; a larger one has an address of its own.
MAX_INLINE = 64 * 1024

#: What strangers are told of a job that has not succeeded, by its state.
_DETAILS = {
    JobState.FAILED: "the work failed",
    JobState.LOST: "the work was broken off several times, and given up",
    JobState.CANCELLED: "the job was cancelled",
}


class ProgressView(BaseModel):
    """How far a job is."""

    done: float
    total: float | None = None
    message: str | None = None
    unit: str | None = None


class ProblemView(BaseModel):
    """Why a job has not succeeded (RFC 9457)."""

    type: str = Field(examples=["urn:lifepool:job-failed"])
    title: str
    status: int
    detail: str


class JobView(BaseModel):
    """A job."""

    id: str
    name: str
    state: JobState
    progress: ProgressView | None = None
    attempts: int = Field(description="How often it was started.")
    max_attempts: int
    cancel_requested: bool = Field(description="Whether it was cancelled and still runs.")
    tags: list[str]
    created_at: datetime
    run_at: datetime | None = Field(None, description="Before which it does not start.")
    started_at: datetime | None = Field(None, description="When its last attempt began.")
    finished_at: datetime | None = None
    expires_at: datetime | None = Field(None, description="When it is deleted.")
    result: Any = Field(None, description="What it returned, if that is small; else see `/result`.")
    has_result: bool = Field(description="Whether it has succeeded.")
    error: ProblemView | None = Field(None, description="Why it has not succeeded.")


class JobPageView(BaseModel):
    """Some of the jobs, the newest first."""

    jobs: list[JobView]
    next: str | None = Field(None, description="The cursor of what follows; null if nothing does.")


def view_of(job: Job, *, details: bool) -> JobView:
    """Return what a client sees.

    Args:
        job: With its result, if it is to be shown.
        details: Whether the exception's own text is shown.
    """
    progress = job.progress
    return JobView(
        id=job.id,
        name=job.name,
        state=job.state,
        progress=None
        if progress is None
        else ProgressView(done=progress.done, total=progress.total, message=progress.message, unit=progress.unit),
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        cancel_requested=job.cancel_requested,
        tags=list(job.tags),
        created_at=_date(job.created_at) or datetime.now(UTC),
        run_at=_date(job.run_at),
        started_at=_date(job.started_at),
        finished_at=_date(job.finished_at),
        expires_at=_date(job.expires_at),
        result=_shown_within(job.result),
        has_result=job.state is JobState.SUCCEEDED,
        error=problem_of(job, details=details),
    )


def problem_of(job: Job, *, details: bool) -> ProblemView | None:
    """Return why a job has not succeeded; None if it has, or has not ended."""
    if job.state not in _DETAILS:
        return None
    detail = _DETAILS[job.state]
    if details and job.failure is not None:
        detail = f"{job.failure.type}: {job.failure.message}" if job.failure.type else job.failure.message
    return ProblemView(type=f"urn:lifepool:job-{job.state}", title=f"Job {job.state}", status=409, detail=detail)


def plain(result: Any) -> Any:
    """Return what JSON shows of a result: bytes in base64, dates as texts, objects as their attributes.

    Raises:
        JobNotStorable: If JSON can't show it.
    """
    try:
        shown = jsonable_encoder(result, custom_encoder={bytes: _base64})
        to_json(shown, inf_nan_mode="null")
    except Exception as error:  # of somebody's own class
        raise JobNotStorable("the result", f"JSON can't show it: {error}") from error
    return shown


def json_of(result: Any) -> bytes:
    """Return a result as JSON; numbers that are not finite are null.

    Raises:
        JobNotStorable: If JSON can't show it.
    """
    return to_json(plain(result), inf_nan_mode="null")


def _shown_within(result: Any) -> Any:
    try:
        return plain(result)
    except JobNotStorable:
        return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _date(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(min(seconds, 253402300799.0), UTC)
