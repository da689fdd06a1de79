import os

from fastapi import FastAPI
from work import double

from lifepool import Pool, PoolDep
from lifepool.integrations.fastapi import install

pool = Pool()
app = FastAPI()
install(app, pool)


@app.get("/double/{n}")
async def doubled(n: int, pool: PoolDep) -> int:
    return await pool.run(double, n, timeout=30)


@app.get("/pid")
async def pid() -> int:
    return os.getpid()
