"""A real uvicorn on the loopback, and all the processes that belong to it. Waits on what it prints, not on time."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests import gone

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
"""Seconds to wait for what must happen; only a failing test waits so long."""


@dataclass
class Server:
    """A running uvicorn.

    Attributes:
        process: What was started; with ``--workers`` or ``--reload`` only the supervisor of the servers.
        url: Where it listens.
        output: All it has printed so far.
    """

    process: subprocess.Popen[bytes]
    url: str = ""
    output: str = ""
    _raw: bytearray = field(default_factory=bytearray)

    def read_until(self, pattern: str) -> str:
        """Wait until it has printed something that matches, and return the first group of it, or all."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (match := re.search(pattern, self.output, re.DOTALL)):
                assert selector.select(max(0.0, deadline - time.monotonic())), f"not said: {pattern}\n{self.output}"
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"the server ended:\n{self.output}"
                self._add(data)
        return match[match.lastindex or 0]

    def family(self) -> list[psutil.Process]:
        """Return all processes: the server, or servers, their workers and helpers."""
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def wait(self) -> int:
        """Wait for the end of the process that was started, and read the rest of what is printed."""
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        self._add(rest)
        return self.process.returncode

    def _add(self, data: bytes) -> None:
        self._raw += data
        self.output = self._raw.decode(errors="replace")


def still_there(family: list[psutil.Process]) -> list[psutil.Process]:
    """Wait until the processes are gone; return those that are not."""
    return gone.still_there(family, PATIENCE_S / 2)


@contextlib.contextmanager
def started(app: str, *arguments: str) -> Iterator[Server]:
    """Start uvicorn, in a process group of its own; afterwards nothing of it may be left.

    Args:
        app: Its name in `tests.integrations.apps`; or, with its module, anywhere: ``module:app``.
        arguments: For uvicorn.
    """
    target = app if ":" in app else f"tests.integrations.apps:{app}"
    command = [sys.executable, "-m", "uvicorn", target, "--port", "0", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    server = Server(process)
    try:
        yield server
    finally:
        family = server.family() if process.poll() is None else []
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(timeout=PATIENCE_S)
        assert process.stdout is not None
        process.stdout.close()
        gone.still_there(family, PATIENCE_S)


@contextlib.contextmanager
def serving(app: str = "app", *arguments: str) -> Iterator[Server]:
    """Start uvicorn and wait until it, or each of its server processes, is ready."""
    with started(app, *arguments) as server:
        count = int(arguments[arguments.index("--workers") + 1]) if "--workers" in arguments else 1
        server.read_until("Application startup complete.*" * count)
        server.url = server.read_until(r"running on (http://\S+)")
        yield server


def end(server: Server, signum: int = signal.SIGTERM) -> list[psutil.Process]:
    """Signal the started process and wait for its end.

    Returns:
        What is left of all its processes.
    """
    family = server.family()
    server.process.send_signal(signum)
    server.wait()
    return still_there(family)
