"""The app that the tests of the multiprocess mode and of the probes run under uvicorn."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI

from lifepool import Pool, PoolDep
from lifepool.integrations.fastapi import install
from lifepool.integrations.health import health_router
from tests import tasks

pool = Pool(max_workers=1, max_queue=2, name="site")
app = FastAPI()
install(app, pool)
app.include_router(health_router(pool))


@app.get("/double")
async def double(pool: PoolDep) -> int:
    """Return the server process that has answered."""
    await pool.run(tasks.double, 21)
    return os.getpid()


@app.get("/hold")
async def hold(address: str, pool: PoolDep) -> Any:
    return await pool.run(tasks.hold, address, "finished")
