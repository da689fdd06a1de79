from collections.abc import AsyncIterator

from quart import Quart
from work import double

from lifepool import Pool

pool = Pool()
app = Quart(__name__)


@app.while_serving
async def pool_is_up() -> AsyncIterator[None]:
    async with pool:
        yield


@app.get("/double/<int:n>")
async def doubled(n: int) -> str:
    return str(await pool.run(double, n, timeout=30))
