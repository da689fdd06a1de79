"""A server that goes on answering while more connections come than it can take."""

import contextlib
import gc
import logging
import socket
import sys

import uvicorn

#: Connections that are taken in one turn of the event loop. asyncio takes as many as the backlog is long, and each
#: costs as much as refusing a request: with uvicorn's 2048 a turn takes half a second in a flood.
ACCEPTED_AT_ONCE = 100
#: Connections that wait for that in the kernel. What finds no place there is tried again by its client, a second later.
BACKLOG = 2048
#: For ``uvicorn.Config(http=)``: refuse as requests are read.
HTTP = "lifepool.integrations.uvicorn:SheddingProtocol"
#: For `gc.set_threshold`: requests leave next to nothing that only the garbage collector finds, and each of its rounds
#: over thousands of connections stops the server for up to 80 ms, in which a flood brings hundreds of requests more.
COLLECTED_AFTER = (5_000, 10, 10)
#: The exit code of uvicorn if the app does not start.
STARTUP_FAILURE = 3


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address, port 0: on any free port; what is accepted sends each answer at once.

    asyncio sees to that (`TCP_NODELAY`) only for sockets that name their protocol, and `create_server` makes none that
    do. Without it each answer on an open connection waits 40 ms for the client.

    Raises:
        OSError: If that is not possible.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Server(uvicorn.Server):
    """Take some connections a turn, though many may wait; for sockets that are handed to ``run``."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        config.backlog = ACCEPTED_AT_ONCE

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as ever, let the garbage collector rest, and give the kernel its queue back.

        asyncio has set that to what it takes in a turn.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is there now stays: it need not be looked at again
        gc.set_threshold(*COLLECTED_AFTER)
        for listener in (sockets or ()) if self.started else ():
            listener.listen(BACKLOG)
            host, port = listener.getsockname()[:2]  # uvicorn says that only of sockets which it has made
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            logging.getLogger("uvicorn.error").info("Uvicorn running on %s (Press CTRL+C to quit)", url)


def serve(config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve on a socket until a signal comes; leave if the app does not start."""
    server = Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        sys.exit(STARTUP_FAILURE)
