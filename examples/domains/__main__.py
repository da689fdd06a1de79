"""Run the service: ``python -m examples.domains``.

HOST, PORT and WORKERS are read from the environment.
"""

import os
import socket
import sys

import uvicorn

DRAIN_TIMEOUT = 30  # seconds that running requests get to finish after Ctrl-C or SIGTERM


def main() -> None:
    """Say where to look, and serve until a signal comes."""
    host = os.environ.get("HOST", "127.0.0.1")
    port = free_port(host, int(os.environ.get("PORT", "8000")))
    workers = os.environ.setdefault("WEB_CONCURRENCY", os.environ.get("WORKERS", "1"))
    print(where_to_look(f"http://{host}:{port}"), flush=True)
    uvicorn.run(
        "examples.domains.app:app",
        host=host,
        port=port,
        workers=int(workers),
        timeout_graceful_shutdown=DRAIN_TIMEOUT,
    )


def free_port(host: str, port: int) -> int:
    """Return `port`, or any free port for 0; leave with a clear message if it is taken."""
    try:
        with socket.create_server((host, port)) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        sys.exit(
            f"Cannot listen on {host}:{port}: {error.strerror}. Try another: PORT={port + 1} ..."
        )


def where_to_look(url: str) -> str:
    """Build the lines printed at the start."""
    return f"""
  The page     {url}/
  API docs     {url}/docs          (its assets come from a CDN; offline: {url}/openapi.json)
  Try it       curl -d '{{"data": "see www.example.com and bob@mail.example.co.uk"}}' \\
                    -H 'content-type: application/json' {url}/addContent
  Large files  curl -F file=@access.log.gz {url}/upload
  Stop         Ctrl-C
"""


# Worker processes import this module again: only the program that was started may start a server.
if __name__ == "__main__":
    main()
