"""The servers of the service case: one route, three ways to keep its work off the event loop.

``python -m benchmarks.services --variant lifepool --workers 2 --loop asyncio --socket 5`` serves on
an inherited listening socket until it gets SIGTERM, or until its standard input ends: that is how
it notices that whoever started it is gone, and then it takes every process of its group along.

Heavy imports are inside functions, because a worker imports this module too.
"""

import argparse
import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

PER_REQUEST = "pool-per-request"
LONG_LIVED = "standard"
LIFEPOOL = "lifepool"

KEEP_ALIVE = 120  # seconds; longer than a run, so no idle connection closes under a request
DRAIN_BOUND = 5  # seconds that uvicorn waits for open requests after SIGTERM

BURN_S = 0.02  # CPU seconds of a request of the overload case
PATIENCE_S = 0.4  # after which its client has gone

Extract = Callable[[str], Awaitable[list[str]]]
Burn = Callable[[], Awaitable[None]]


def per_request(workers: int) -> "FastAPI":
    """Return the service as people first write it: a pool made and torn down in the handler."""
    from concurrent.futures import ProcessPoolExecutor

    from fastapi import FastAPI

    from examples.domains.extract import find_domains

    async def extract(text: str) -> list[str]:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(workers) as executor:
            return await loop.run_in_executor(executor, find_domains, text)

    return add_routes(FastAPI(), extract)


def long_lived(workers: int) -> "FastAPI":
    """Return the service over one standard pool, made and shut down by the lifespan."""
    from concurrent.futures import Executor, ProcessPoolExecutor

    from fastapi import FastAPI, HTTPException

    from benchmarks.tasks import burn
    from examples.domains.extract import find_domains, warm_up

    executor: Executor

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal executor
        with ProcessPoolExecutor(workers, initializer=warm_up) as executor:
            yield

    async def extract(text: str) -> list[str]:
        return await asyncio.get_running_loop().run_in_executor(executor, find_domains, text)

    async def work() -> None:
        working = asyncio.get_running_loop().run_in_executor(executor, burn, BURN_S)
        try:
            await asyncio.wait_for(working, PATIENCE_S)
        except TimeoutError:
            raise HTTPException(504) from None

    return add_routes(FastAPI(lifespan=lifespan), extract, work)


def lifepool(workers: int) -> "FastAPI":
    """Return the service over lifepool, as its README shows it."""
    from fastapi import FastAPI

    from benchmarks.tasks import burn
    from examples.domains.extract import find_domains, warm_up
    from lifepool import Pool
    from lifepool.integrations.fastapi import install

    # What the standard pool's forked processes have from the server, ours have from their template.
    pool = Pool(max_workers=workers, preload=["examples.domains.extract"], initializer=warm_up)

    async def extract(text: str) -> list[str]:
        return await pool.run(find_domains, text)

    async def work() -> None:
        await pool.run(burn, BURN_S, timeout=PATIENCE_S)

    app = FastAPI()
    install(app, pool)
    return add_routes(app, extract, work)


VARIANTS: dict[str, Callable[[int], "FastAPI"]] = {
    LIFEPOOL: lifepool,
    LONG_LIVED: long_lived,
    PER_REQUEST: per_request,
}


def add_routes(app: "FastAPI", extract: Extract, work: Burn | None = None) -> "FastAPI":
    """Add the routes, the same for every variant, around the one thing that differs."""
    from pydantic import BaseModel

    class Content(BaseModel):
        data: str

    class Answer(BaseModel):
        status: str
        domains_found: list[str]
        count: int

    async def add_content(content: Content) -> Answer:
        names = await extract(content.data)
        return Answer(status="success", domains_found=names, count=len(names))

    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app.add_api_route("/addContent", add_content, methods=["POST"])
    app.add_api_route("/health", health)
    if work is not None:
        app.add_api_route("/work", work, methods=["POST"])
    return app


def serve(app: "FastAPI", listener: socket.socket, loop: str) -> None:
    """Serve until SIGTERM."""
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="uvloop" if loop == "uvloop" else "asyncio",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=DRAIN_BOUND,
    )
    uvicorn.Server(config).run(sockets=[listener])


def die_with_parent() -> None:
    """End the whole process group as soon as standard input ends."""

    def watch() -> None:
        # Not sys.stdin: a read there holds its lock, and a forked worker would wait for that.
        while os.read(0, 1):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), required=True)
    parser.add_argument("--socket", type=int, required=True, help="inherited listening socket")
    options = parser.parse_args()
    if os.getpgrp() == os.getpid():  # never take a shell along that somebody started this from
        die_with_parent()
    app = VARIANTS[options.variant](options.workers)
    serve(app, socket.socket(fileno=options.socket), options.loop)


if __name__ == "__main__":
    main()
