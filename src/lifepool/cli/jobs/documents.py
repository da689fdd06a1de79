"""A job as plain values for JSON, as the HTTP interface has it and with what operators want to know besides."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lifepool.jobs.errors import JobError
from lifepool.jobs.sealing import Sealer
from lifepool.jobs.values import decode

if TYPE_CHECKING:
    from lifepool.jobs.records import Job

#: Bytes of a result that is shown.
MAX_RESULT = 64 * 1024
_INSTANTS = ("created_at", "run_at", "started_at", "finished_at", "expires_at")
_LEFT_OUT = ("result", "is_new")


def job_document(job: Job) -> dict[str, Any]:
    """Return a job without its result; instants are in ISO 8601."""
    found = {name: value for name, value in asdict(job).items() if name not in _LEFT_OUT}
    return {**found, "state": job.state.value, **{name: instant(found[name]) for name in _INSTANTS}}


def instant(seconds: float | None) -> str | None:
    """Return an instant in seconds since the epoch as a text."""
    return None if seconds is None else datetime.fromtimestamp(min(seconds, 253402300799.0), UTC).isoformat()


def opened(job: Job, frame: bytes | None) -> tuple[Any, str | None]:
    """Return a result, and why it can't be shown if it can't.

    What is stored as JSON can be read without the secret; a pickle is not loaded.
    """
    if frame is None:
        return None, None
    if len(frame) > MAX_RESULT:
        return None, f"it has {len(frame):,} bytes"
    try:
        encoding, body = Sealer(None).open("result", job.id, job.function, frame)
        return decode(encoding, body), None
    except JobError as error:
        return None, str(error.args[0])


def as_json(value: Any) -> Any:
    """Return a result as JSON has it; what JSON can't show as Python writes it."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return repr(value)
    return value
