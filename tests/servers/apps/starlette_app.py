from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from work import double

from lifepool import Pool

pool = Pool()


async def doubled(request: Request) -> JSONResponse:
    return JSONResponse(await pool.run(double, int(request.path_params["n"]), timeout=30))


app = Starlette(lifespan=pool.lifespan, routes=[Route("/double/{n:int}", doubled)])
