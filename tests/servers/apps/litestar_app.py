from litestar import Litestar, get
from work import double

from lifepool import Pool

pool = Pool()


@get("/double/{n:int}")
async def doubled(n: int) -> int:
    return await pool.run(double, n, timeout=30)


app = Litestar([doubled], lifespan=[pool])
