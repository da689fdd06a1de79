"""Start and end programs of a test, each by its own process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lifepool import BackendUnavailable, TaskTimeout, WorkerLost
from tests import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool import Pool
    from lifepool.backends.remote.backend import RemoteBackend

ROOT = Path(__file__).resolve().parents[2]
#: Seconds for a program to come up or to end; a loaded machine takes its time.
START_S = 40.0


async def works_again(pool: Pool) -> None:
    """Send calls until one is answered."""
    async with asyncio.timeout(START_S):
        while True:
            with contextlib.suppress(BackendUnavailable, TaskTimeout, WorkerLost):
                assert await pool.run(tasks.double, 4, timeout=10.0) == 8
                return
            await asyncio.sleep(0.05)


class Server(Protocol):
    """A broker for tests."""

    @property
    def address(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def signal(self, number: signal.Signals) -> None: ...


class Harness(Protocol):
    """An engine for tests."""

    def __enter__(self) -> Harness: ...
    def __exit__(self, *_: object) -> None: ...

    @property
    def url(self) -> str:
        """What `Pool(backend=...)` takes."""

    def start_node(
        self, workers: int = 1, *, allow: tuple[str, ...] = ("tests", "builtins", "time"), **environment: str
    ) -> Program:
        """Start a node; return when it is up.

        Args:
            workers: Calls that it runs at the same time.
            allow: What it runs.
            environment: Variables. ``WRONG_BY`` and ``WRONG_VERSION`` make it an odd one (not on Ray).
        """

    @property
    def server(self) -> Any:
        """The broker or scheduler itself: something with `signal(number)`."""

    def stop_server(self) -> None:
        """End the broker or scheduler at once."""

    def start_server(self) -> None:
        """Start it again, where it was."""


def free_port() -> int:
    """Return a port for a server that starts soon.

    Not one that the system would choose: it also gives those to outgoing connections, and a broker takes seconds to
    listen. Below them (32768 on Linux, 49152 on macOS) nobody is given a port who did not ask for it.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a hundred ports are in use")


def wait_until(holds: Callable[[], Any], what: str, seconds: float = START_S) -> None:
    """Ask again and again, for something outside of this process."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds:g} s"
        time.sleep(0.02)


def is_heard_of(backend: RemoteBackend, calls: int = 1) -> bool:
    """Whether the client knows of so many calls that a node has them: their arrival at a gate may come before that."""
    transport: Any = backend._transport
    nodes = getattr(transport, "_nodes", {})
    unheard = getattr(transport, "_unwritten", ()) or any(node.unconfirmed for node in nodes.values())
    return not unheard and sum(call.node is not None for call in backend._calls) == calls


class Program:
    """A program that is ended with the test, and whose output is kept in a file.

    Attributes:
        log: That file.
    """

    def __init__(self, *command: str, log: Path, **environment: str) -> None:
        self.log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LIFEPOOL_")}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=ROOT, env=clean | environment
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def has_said(self, text: str) -> bool:
        assert self.is_alive(), f"it ended with {self._process.returncode}:\n{self.log.read_text()}"
        return text in self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once; its own children end with it or are the test's to look after."""
        self.signal(signal.SIGKILL)
        self._process.wait(START_S)

    def wait(self, seconds: float = START_S) -> int:
        """Wait until it has ended."""
        return self._process.wait(seconds)

    def end(self, seconds: float = START_S) -> int:
        """Ask it to end and wait for that; kill it if it does not."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class RedisServer:
    """A Redis on a port of its own.

    Attributes:
        port: It.
    """

    def __init__(self, program: str, folder: Any, *, persistent: bool = False) -> None:
        self.port = free_port()
        self._program = program
        self._folder = Path(folder)
        self._persistent = persistent
        self._running: Program | None = None

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        append = "yes" if self._persistent else "no"
        # Debian's redis-check-rdb is the server too: it looks at its own name.
        self._running = Program(
            "bash", "-c", 'exec -a redis-server "$@"', "-", self._program, "--port", str(self.port), "--bind",
            "127.0.0.1", "--save", "", "--appendonly", append, "--appendfsync", "always", "--dir", str(self._folder),
            log=self._folder / "redis.log",
        )  # fmt: skip
        wait_until(self._answers, "Redis")

    def _answers(self) -> bool:
        assert self._running is not None
        assert self._running.is_alive(), self._running.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith(b"+PONG")
        return False

    def stop(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running = None

    def signal(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.signal(number)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def python(*arguments: str, log: Path, **environment: str) -> Program:
    return Program(sys.executable, *arguments, log=log, **environment)
