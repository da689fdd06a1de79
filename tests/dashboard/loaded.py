"""The app that the page's tests look at: a pool with two workers, and handlers that make happen what is to be seen."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from fastapi import FastAPI

from lifepool import Pool, WorkerLost
from lifepool._core import policy
from lifepool.dashboard import dashboard
from tests import tasks
from tests.dashboard.odd_tasks import MARKUP, fail_oddly

# On a busy machine a task gives in late: its worker is not to be killed for that.
vars(policy)["INTERRUPT_GRACE_S"] = 30.0


def access(scope: Any) -> Any:
    return os.environ.get("ACCESS", "read")


pool = Pool(name="documents", max_workers=2, timeout=30)
app = FastAPI(lifespan=pool.lifespan)
app.mount("/pool", dashboard(pool, access=access, show_arguments=True))
app.mount("/read/only", dashboard(pool))


@app.get("/double")
async def double(times: int) -> int:
    """Do some work."""
    return sum(await pool.gather(tasks.double, range(times), chunksize=1))


@app.get("/fail")
async def fail() -> None:
    """Raise, as a task whose name, arguments and error are markup."""
    with contextlib.suppress(ValueError):
        await pool.run(fail_oddly, MARKUP)


@app.get("/hold")
async def hold(address: str) -> int:
    """Submit a task that waits at a gate, and tell its number."""
    handle = pool.submit(tasks.hold, address)
    handle.add_done_callback(lambda done: done.cancelled() or done.exception())
    return handle.id


@app.get("/crash")
async def crash() -> None:
    """Kill this worker."""
    with contextlib.suppress(WorkerLost):
        await pool.run(tasks.exit_hard, 3)
