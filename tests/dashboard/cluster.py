"""The app with a cluster that the page's tests look at: two nodes in this process, each with a real local pool."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fastapi import FastAPI

from lifepool import Pool
from lifepool.backends.remote.loopback import LoopbackCluster
from lifepool.dashboard import dashboard
from tests import tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

cluster = LoopbackCluster("a secret")
pool = Pool(name="documents", backend=cluster.backend(), max_workers=1, timeout=30)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        Pool(backend="local", max_workers=2) as first,
        cluster.node(first),
        Pool(backend="local", max_workers=1) as second,
        cluster.node(second),
        pool,
    ):
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/pool", dashboard(pool))


@app.get("/double")
async def double(times: int) -> int:
    """Do some work."""
    return sum(await pool.gather(tasks.double, range(times), chunksize=1))


@app.get("/cut")
async def cut() -> None:
    """Cut the cluster off."""
    cluster.cut()


@app.get("/mend")
async def mend() -> None:
    """Have all go through again."""
    cluster.mend()
