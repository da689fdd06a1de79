"""Start the app in this process, or the real service, and wait on what it prints, not on time."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from asgi_lifespan import LifespanManager

from examples.domains.app import app

ROOT = Path(__file__).parents[3]
START_TIMEOUT = 30  # seconds, on a busy machine; usually one
STOP_TIMEOUT = 20


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Start the app in this process, with its real pool, and connect to it without a network."""
    async with LifespanManager(app) as manager:
        transport = httpx.ASGITransport(manager.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    url: str = ""
    output: bytearray = field(default_factory=bytearray)

    def read_until(self, pattern: str) -> str:
        """Wait for the service to print something that matches `pattern`."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_TIMEOUT
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (match := re.search(pattern, self.output.decode())):
                assert selector.select(deadline - time.monotonic()), self.output.decode()
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"the service ended:\n{self.output.decode()}"
                self.output += data
        return match[match.lastindex or 0]

    def stop(self, signum: int = signal.SIGTERM) -> list[psutil.Process]:
        """Send a signal; return the processes of the service that are still there afterwards."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        assert family, "the service has no worker processes"
        self.process.send_signal(signum)
        rest, _ = self.process.communicate(timeout=STOP_TIMEOUT)
        self.output += rest
        _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT)
        return alive


def start(**env: str) -> Service:
    """Start `python -m examples.domains` without waiting for it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.domains"],
        cwd=ROOT,
        env={**os.environ, "PORT": "0", "LIFEPOOL_MAX_WORKERS": "2", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Service(process)


@contextlib.contextmanager
def running(**env: str) -> Iterator[Service]:
    """Run the service on a free port of the loopback until the block ends."""
    service = start(**env)
    try:
        service.url = service.read_until(r"The page +(http://\S+)/\n")
        service.read_until("(?s)" + "Application startup complete.*" * int(env.get("WORKERS", "1")))
        # One of several servers says so just before it listens: connect again for a few seconds.
        with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as http:
            http.get(f"{service.url}/health").raise_for_status()
        yield service
    finally:
        if service.process.poll() is None and service.stop():
            raise AssertionError("the service left processes behind")
        assert service.process.stdout is not None
        service.process.stdout.close()
