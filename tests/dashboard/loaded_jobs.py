"""The app whose jobs the live page is looked at for: the store is ``LIFEPOOL_JOBS_STORE``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from lifepool import Pool
from lifepool._core import policy
from lifepool.dashboard import dashboard
from lifepool.jobs import Jobs
from tests.dashboard.odd_tasks import MARKUP
from tests.jobs import tasks

# On a busy machine a job gives in late: its worker is not to be killed for that.
vars(policy)["INTERRUPT_GRACE_S"] = 30.0

pool = Pool(name="reports", max_workers=1)
jobs = Jobs(pool)
app = FastAPI(lifespan=jobs.lifespan)
app.mount("/pool", dashboard(pool, access=lambda scope: "act", show_arguments=True))
app.mount("/read/only", dashboard(pool))


@app.get("/report")
async def report(address: str, value: int = 0) -> Any:
    """Submit a job that says how far it is, and waits at a gate."""
    return (await jobs.submit(tasks.report_and_hold, address, tags=["user:ann"])).id


@app.get("/fail")
async def fail(times: int = 1) -> Any:
    """Submit jobs that raise, and wait for them."""
    found = [await jobs.submit(tasks.fail, MARKUP, name=MARKUP) for _ in range(times)]
    return [(await jobs.wait(job.id)).id for job in found]


@app.get("/later")
async def later() -> Any:
    """Submit a job that starts tomorrow."""
    return (await jobs.submit(tasks.add, 1, 2, name="tomorrow", priority=5, run_at=timedelta(days=1))).id


@app.get("/state")
async def state(job: str) -> Any:
    """Say where a job is."""
    return (await jobs.look(job)).state
