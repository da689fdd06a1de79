"""Run the service: ``python -m examples.domains``.

HOST, PORT, WORKERS and ACCESS_LOG are read from the environment.
"""

import os
import socket
import sys
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from examples.domains import kept
from examples.domains.limits import Limits
from examples.domains.listening import HTTP, listen, serve

# uvicorn's own, and the pool's lines in the same shape: how many workers there are, and why.
LOGGERS = {**LOGGING_CONFIG["loggers"], "lifepool": {"handlers": ["default"], "level": "INFO"}}
LOGGING = {**LOGGING_CONFIG, "loggers": LOGGERS}
DRAIN_TIMEOUT = 30  # seconds that running requests get to finish after Ctrl-C or SIGTERM


def main() -> None:
    """Say where to look, and serve until a signal comes."""
    check_limits()
    host = os.environ.get("HOST", "127.0.0.1")
    workers = setting("WORKERS", 1, range(1, 1000))
    os.environ["WEB_CONCURRENCY"] = str(workers)  # the pools of several servers share the CPUs
    listener = listen_or_leave(host, setting("PORT", 8000, range(65536)))
    port = int(listener.getsockname()[1])
    print(where_to_look(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"), flush=True)
    config: dict[str, Any] = {
        "app": "examples.domains.app:service",
        "http": HTTP,
        "log_config": LOGGING,
        "access_log": bool(setting("ACCESS_LOG", 0, range(2))),  # a line costs as much as refusing a request
        "timeout_graceful_shutdown": DRAIN_TIMEOUT,
    }
    if workers == 1:
        # uvloop accepts one connection a turn: in overload, probes on new ones would wait for seconds.
        serve(uvicorn.Config(**config, loop="asyncio"), listener)
    else:
        listener.close()
        # uvicorn makes a socket for all of them, which asyncio leaves without TCP_NODELAY: uvloop, if it is there.
        uvicorn.run(**config, host=host, port=port, workers=workers, loop="auto")


def check_limits() -> None:
    """Leave with a clear message if a limit makes no sense; the app itself would give a traceback."""
    try:
        Limits.from_environment()
    except ValueError as error:
        sys.exit(str(error))


def setting(name: str, default: int, allowed: range) -> int:
    """Read a whole number from the environment; leave with a clear message if it is none."""
    value = os.environ.get(name, str(default))
    if not (value.isascii() and value.isdigit() and int(value) in allowed):
        sys.exit(f"{name}={value!r} must be a whole number from {allowed[0]} to {allowed[-1]}.")
    return int(value)


def listen_or_leave(host: str, port: int) -> socket.socket:
    """Listen there, for 0 on any free port; leave with a clear message if it is taken."""
    try:
        return listen(host, port)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # `socket` adds the address again
        sys.exit(f"Cannot listen on {host}:{port}: {reason}. Set PORT or HOST to another.")


def where_to_look(url: str) -> str:
    """Build the lines printed at the start."""
    return f"""
  The page     {url}/
  API docs     {url}/docs          (its assets come from a CDN; offline: {url}/openapi.json)
  Try it       curl -d '{{"data": "see www.example.com and bob@mail.example.co.uk"}}' \\
                    -H 'content-type: application/json' {url}/addContent
  Large files  curl -F file=@access.log.gz {url}/upload
  As a job     curl -F file=@access.log.gz {url}/jobs      (kept in {kept.folder()})
  Stop         Ctrl-C
"""


# Worker processes import this module again: only the program that was started may start a server.
if __name__ == "__main__":
    main()
