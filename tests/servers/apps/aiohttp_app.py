import sys
from collections.abc import AsyncIterator

from aiohttp import web
from work import double

from lifepool import Pool

pool = Pool()


async def pool_is_up(app: web.Application) -> AsyncIterator[None]:
    async with pool:
        yield


async def doubled(request: web.Request) -> web.Response:
    return web.json_response(await pool.run(double, int(request.match_info["n"]), timeout=30))


app = web.Application()
app.cleanup_ctx.append(pool_is_up)
app.router.add_get("/double/{n}", doubled)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
