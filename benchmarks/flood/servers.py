"""The servers of the flood: ``python -m benchmarks.flood.servers --variant protected --port 0`` prints its port.

It ends when its standard input ends, with every process of its group.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from benchmarks.services import die_with_parent

BUSY = b'{"detail":"busy"}'

PROTECTED = "protected"  # the reference service as it is shipped
UNPROTECTED = "unprotected"  # the same without load shedding
STANDARD = "standard"  # the same texts over one ProcessPoolExecutor
REFUSES_ALL = "refuses all"  # a bare ASGI handler that answers 503 without reading: nothing in Python is cheaper
BARE = "bare"  # a bare ASGI handler that does the work with no framework, over a standard pool
VARIANTS = (PROTECTED, UNPROTECTED, STANDARD, BARE, REFUSES_ALL)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def make_app(variant: str, workers: int) -> Any:
    """Return the app of a variant."""
    if variant == REFUSES_ALL:
        return refuse_all
    if variant == BARE:
        return BareApp(workers)
    if variant == STANDARD:
        from benchmarks.services import long_lived

        return long_lived(workers)
    from examples.domains.app import app, service

    return app if variant == UNPROTECTED else service


async def refuse_all(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse everything but ``/health``."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["path"] == "/health":
        await _answer(send, 200, b"{}")
    else:
        await _answer(send, 503, BUSY)


class BareApp:
    """Find the names of a text in a standard pool, with nothing around it.

    Args:
        workers: Processes of the pool.
    """

    def __init__(self, workers: int) -> None:
        from concurrent.futures import ProcessPoolExecutor

        from examples.domains.extract import warm_up

        self._executor = ProcessPoolExecutor(workers, initializer=warm_up)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request."""
        from examples.domains.extract import find_domains

        if scope["type"] == "lifespan":
            await _live(receive, send)
            self._executor.shutdown(cancel_futures=True)
            return
        if scope["path"] == "/health":
            await _answer(send, 200, b"{}")
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        text = json.loads(body)["data"]
        names = await asyncio.get_running_loop().run_in_executor(self._executor, find_domains, text)
        await _answer(send, 200, json.dumps({"domains_found": names}).encode())


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve as the reference service is served."""
    import uvicorn

    from examples.domains import __main__ as reference
    from examples.domains.listening import HTTP, listen, serve

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--access-log", action="store_true")
    options = parser.parse_args()
    die_with_parent()
    listener = listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    app = make_app(options.variant, options.workers)
    config = uvicorn.Config(
        app,
        loop=options.loop,
        http=HTTP if options.variant == PROTECTED else "auto",
        log_config=reference.LOGGING,
        access_log=options.access_log,
        timeout_graceful_shutdown=5,
    )
    serve(config, listener)


if __name__ == "__main__":
    main()
