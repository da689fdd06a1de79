"""A server as the documentation starts it, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.gone import still_there

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIMEOUT = 40  # seconds, on a busy machine; usually one
STOP_TIMEOUT = 30

_UVICORN = Path(sys.executable).with_name("uvicorn")
_READY = (rb"running on (http://[\w.]+:\d+)", rb"Application startup complete")


@contextlib.contextmanager
def uvicorn(folder: Path, arguments: list[str], env: dict[str, str]) -> Iterator[str]:
    """Run ``uvicorn`` with these arguments; yields its address, once it answers."""
    with _running([str(_UVICORN), *arguments, "--host", "127.0.0.1", "--port", "0"], folder, env) as url:
        yield url


@contextlib.contextmanager
def reference_service(root: Path, env: dict[str, str]) -> Iterator[str]:
    """Run what ``make serve`` runs; yields its address, once it answers."""
    command = [sys.executable, "-m", "examples.domains"]
    with tempfile.TemporaryDirectory(prefix="domains-") as folder:
        own = {"HOST": "127.0.0.1", "WORKERS": "1", "DOMAINS_FOLDER": folder, **env, "PORT": "0"}
        with _running(command, root, own) as url:
            yield url


@contextlib.contextmanager
def _running(command: list[str], folder: Path, env: dict[str, str]) -> Iterator[str]:
    environment = {**os.environ, "LIFEPOOL_MAX_WORKERS": "2", **env}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        try:
            yield _address(server)
        finally:
            _stop(server)


def _address(server: subprocess.Popen[bytes]) -> str:
    assert server.stdout is not None
    printed = b""
    deadline = time.monotonic() + START_TIMEOUT
    with selectors.DefaultSelector() as selector:
        selector.register(server.stdout, selectors.EVENT_READ)
        while not all(re.search(pattern, printed) for pattern in _READY):
            assert selector.select(deadline - time.monotonic()), f"not up in {START_TIMEOUT} s:\n{printed.decode()}"
            data = os.read(server.stdout.fileno(), 65536)
            assert data, f"the server ended:\n{printed.decode()}"
            printed += data
    match = re.search(_READY[0], printed)
    assert match is not None
    return match[1].decode()


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    family = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(signal.SIGTERM)
    try:
        server.communicate(timeout=STOP_TIMEOUT)
    finally:
        server.kill()  # nothing happens if it has ended
    assert still_there(family, STOP_TIMEOUT) == [], "the server left processes behind"
