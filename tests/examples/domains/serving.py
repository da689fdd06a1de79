"""Start the app in this process, or the real service, and wait on what it prints, not on time."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from asgi_lifespan import LifespanManager

from examples.domains.app import app
from tests.gone import still_there

ROOT = Path(__file__).parents[3]
START_TIMEOUT = 30  # seconds, on a busy machine; usually one
STOP_TIMEOUT = 20


#: The app that a file's tests share, if they do.
lasting: list[Any] = []


@contextlib.asynccontextmanager
async def started() -> AsyncIterator[Any]:
    """Start the app in this process, with its real pool, unless that has been done for all tests of the file."""
    if lasting:
        yield lasting[0]
        return
    async with LifespanManager(app, startup_timeout=START_TIMEOUT, shutdown_timeout=STOP_TIMEOUT) as manager:
        yield manager.app


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Connect to the app without a network."""
    async with started() as running_app:
        transport = httpx.ASGITransport(running_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http


class Service:
    """The service in a process of its own; a thread reads what it prints, so that it never blocks.

    Attributes:
        process: The server.
        url: Where it listens, without a slash at the end.
    """

    def __init__(self, program: str = "examples.domains", **env: str) -> None:
        self.url = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", program],
            cwd=ROOT,
            env={**os.environ, "PORT": "0", "LIFEPOOL_MAX_WORKERS": "2", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._printed = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def read_until(self, pattern: str) -> str:
        """Wait for the service to print something that matches `pattern`; return its group."""
        with self._news:
            self._news.wait_for(
                lambda: re.search(pattern, self._printed) or not self._reader.is_alive(),
                START_TIMEOUT,
            )
            match = re.search(pattern, self._printed)
        assert match, f"no {pattern!r} in:\n{self._printed}"
        return match[match.lastindex or 0]

    def wait(self) -> str:
        """Wait for the service to end; return all that it printed."""
        self.process.wait(STOP_TIMEOUT)
        self._reader.join(STOP_TIMEOUT)
        return self._printed

    def stop(self, signum: int = signal.SIGTERM) -> list[psutil.Process]:
        """Send a signal; return the processes of the service that are still there afterwards."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        assert family, "the service has no worker processes"
        self.process.send_signal(signum)
        self.process.wait(STOP_TIMEOUT)
        return still_there(family, STOP_TIMEOUT)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self._printed += line
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()


@contextlib.contextmanager
def running(program: str = "examples.domains", **env: str) -> Iterator[Service]:
    """Run the service, or another program that starts it, on a free port of the loopback until the block ends."""
    with tempfile.TemporaryDirectory(prefix="domains-") as folder:
        yield from _running(program, {"DOMAINS_FOLDER": folder, **env})


def _running(program: str, env: dict[str, str]) -> Iterator[Service]:
    service = Service(program, **env)
    try:
        service.url = service.read_until(r"The page +(http://\S+)/\n")
        service.read_until("(?s)" + "Application startup complete.*" * int(env.get("WORKERS", "1")))
        # One of several servers says so just before it listens: connect again for a few seconds.
        with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as http:
            http.get(f"{service.url}/health").raise_for_status()
        yield service
    finally:
        left = service.stop() if service.process.poll() is None else []
        for process in left:
            process.kill()
        service.wait()
        assert left == [], "the service left processes behind"
