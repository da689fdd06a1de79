"""Apps with load shedding that the tests run under a real server."""

# No annotations from the future: FastAPI reads those of handlers that are local.

import json
from typing import Any

from fastapi import FastAPI, Request

from lifepool import Pool
from lifepool.integrations.asgi import ASGIApp, Message, Receive, Scope, Send, with_pool
from lifepool.integrations.fastapi import install
from lifepool.integrations.health import health_router
from lifepool.integrations.shedding import LoadShedding, controller
from tests.tasks import double, hold

SEEN = "x-seen"
"""A header of each answer that has passed the outermost middleware."""


class Seen:
    """The outermost middleware: it marks the answers that pass it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (SEEN.encode(), b"1")]
            await send(message)

        await self.app(scope, receive, mark)


def make_app(pool: Pool) -> FastAPI:
    """An app whose work stands at a gate, or is done at once."""
    app = FastAPI()
    install(app, pool)
    app.include_router(health_router(pool, metrics=False))
    app.add_middleware(LoadShedding, pool=pool, exempt=["/numbers", "/static/"])
    app.add_middleware(Seen)

    async def held(address: str, request: Request) -> Any:
        return await pool.run(hold, address, len(await request.body()))

    async def twice(address: str) -> list[Any]:
        """Two tasks, one after the other."""
        return [await pool.run(hold, address, 1), await pool.run(double, 21)]

    async def doubled() -> int:
        return await pool.run(double, 21)

    async def numbers() -> Any:
        return pool.statistics()

    app.add_api_route("/hold", held, methods=["POST"])
    app.add_api_route("/twice", twice, methods=["POST"])
    app.add_api_route("/double", doubled)
    app.add_api_route("/numbers", numbers)
    return app


def patient() -> FastAPI:
    """Who was admitted may wait for long; while requests are refused, that goes on."""
    vars(controller)["CALM_S"] = 30.0
    return make_app(Pool(max_workers=1, target_wait=10.0))


def impatient() -> FastAPI:
    """Who has waited for half a second is dropped."""
    return make_app(Pool(max_workers=1, target_wait=0.05))


plain_pool = Pool(max_workers=1)


async def _plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve with no framework at all: ``/hold/<address>``, and the pool's numbers for ``/health``."""
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/health":
        body = json.dumps(plain_pool.statistics().as_dict()).encode()
    else:
        body = str(await plain_pool.run(hold, scope["query_string"].decode(), "done")).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


plain = with_pool(LoadShedding(_plain, pool=plain_pool), plain_pool)
