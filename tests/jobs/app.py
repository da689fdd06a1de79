"""An app with jobs, for a real server: ``uvicorn tests.jobs.app:app``; the store is ``LIFEPOOL_JOBS_STORE``."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, Response

from lifepool import Pool
from lifepool.dashboard import dashboard
from lifepool.integrations.fastapi import install
from lifepool.integrations.health import health_router
from lifepool.jobs import Jobs, JobView, hook, job_router
from tests.jobs import tasks

hook._REST = 0.0  # a count is asked for again soon, though a query took long
pool = Pool(max_workers=1)
jobs = Jobs(pool)
app = FastAPI(lifespan=jobs.lifespan)
install(app, pool)
app.include_router(job_router(jobs), prefix="/jobs")
app.include_router(health_router(pool))
app.mount("/pool", dashboard(pool, access=lambda scope: "act"))


@app.post("/hold", status_code=202)
async def hold(address: str, value: int, response: Response) -> JobView:
    return jobs.accepted(await jobs.submit(tasks.hold, address, value), response)


@app.get("/pids")
async def pids() -> Any:
    return [os.getpid()]
