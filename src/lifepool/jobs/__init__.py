"""Jobs: work that outlives the request, and the server.

::

    jobs = Jobs(pool, store="sqlite:///jobs.db")
    app = FastAPI(lifespan=jobs.lifespan)
    app.include_router(job_router(jobs), prefix="/jobs")

    job = await jobs.submit(build_report, order.id, retries=2)

The public names are loaded on first use: workers import parts of this package and must stay light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool.jobs.decorated import JobFunction as JobFunction
    from lifepool.jobs.errors import IdempotencyConflict as IdempotencyConflict
    from lifepool.jobs.errors import JobError as JobError
    from lifepool.jobs.errors import JobNotCallable as JobNotCallable
    from lifepool.jobs.errors import JobNotFound as JobNotFound
    from lifepool.jobs.errors import JobNotStorable as JobNotStorable
    from lifepool.jobs.errors import JobsNotStarted as JobsNotStarted
    from lifepool.jobs.errors import StoreCorrupt as StoreCorrupt
    from lifepool.jobs.errors import StoreError as StoreError
    from lifepool.jobs.errors import StoreFull as StoreFull
    from lifepool.jobs.errors import StoreUnavailable as StoreUnavailable
    from lifepool.jobs.errors import WrongJobState as WrongJobState
    from lifepool.jobs.jobs import Jobs as Jobs
    from lifepool.jobs.progress import report_progress as report_progress
    from lifepool.jobs.records import Job as Job
    from lifepool.jobs.records import JobFailure as JobFailure
    from lifepool.jobs.records import JobPage as JobPage
    from lifepool.jobs.records import JobProgress as JobProgress
    from lifepool.jobs.records import JobState as JobState
    from lifepool.jobs.router import job_router as job_router
    from lifepool.jobs.views import JobView as JobView

_ERRORS = (
    "IdempotencyConflict", "JobError", "JobNotCallable", "JobNotFound", "JobNotStorable", "JobsNotStarted",
    "StoreCorrupt", "StoreError", "StoreFull", "StoreUnavailable", "WrongJobState",
)  # fmt: skip
_RECORDS = ("Job", "JobFailure", "JobPage", "JobProgress", "JobState")
_HOMES = {
    "Jobs": "lifepool.jobs.jobs",
    "JobFunction": "lifepool.jobs.decorated",
    "report_progress": "lifepool.jobs.progress",
    "job_router": "lifepool.jobs.router",
    "JobView": "lifepool.jobs.views",
    **dict.fromkeys(_ERRORS, "lifepool.jobs.errors"),
    **dict.fromkeys(_RECORDS, "lifepool.jobs.records"),
}

# These need FastAPI, which a star import must not ask for.
__all__ = sorted(_HOMES.keys() - {"job_router", "JobView"})


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lifepool.jobs' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
