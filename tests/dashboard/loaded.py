"""The app that the page's tests look at: a pool with two workers, and handlers that make happen what is to be seen."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI

from lifepool import Pool
from lifepool.dashboard import dashboard
from tests import tasks

MARKUP = "<img src=x onerror=document.title='injected'>"

pool = Pool(name="documents", max_workers=2, timeout=30)
app = FastAPI(lifespan=pool.lifespan)
access = os.environ.get("ACCESS", "read")
app.mount("/pool", dashboard(pool, access=lambda scope: access, show_arguments=True))  # type: ignore[arg-type,return-value]


@app.get("/double")
async def double(times: int) -> int:
    """Some work."""
    return sum(await pool.gather(tasks.double, range(times), chunksize=1))


@app.get("/fail")
async def fail(message: str) -> str:

    try:
        await pool.run(tasks.fail, message)
    except ValueError as error:
        return str(error)
    return ""


@app.get("/hold")
async def hold(address: str) -> Any:
    """A task that waits at a gate."""
    handle = pool.submit(tasks.hold, address, MARKUP)
    handle.add_done_callback(lambda done: done.cancelled() or done.exception())
    return handle.id


@app.get("/crash")
async def crash() -> str:
    """A worker that dies."""
    try:
        await pool.run(tasks.exit_hard, 3)
    except Exception as error:
        return str(error)
    return ""
