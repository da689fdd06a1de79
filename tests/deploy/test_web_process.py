"""The web process of deploy/, run as the files say: it finishes what it does when it is told to end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.deploy.files import DEPLOY, programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 60.0


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Ask again and again, for something outside of this process."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.02)


@pytest.fixture
def web() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The web process on a port of its own, and its address; its tasks run on this machine."""
    program = next(each for each in programs() if each.words[0] == "uvicorn")
    environment = program.environment
    probe = socket.socket()  # it keeps the port: nobody else is given it, and a server may bind it, too
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    port = str(probe.getsockname()[1])
    words = [{"8000": port, "0.0.0.0": "127.0.0.1"}.get(word, word) for word in program.words]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LIFEPOOL_", "PROMETHEUS_"))}
    given = {"LIFEPOOL_FALLBACK": environment["LIFEPOOL_FALLBACK"], "LIFEPOOL_BACKEND": "local"}
    given |= {"LIFEPOOL_DRAIN_TIMEOUT": environment["LIFEPOOL_DRAIN_TIMEOUT"], "LIFEPOOL_MAX_WORKERS": "1"}
    with probe, subprocess.Popen([sys.executable, "-m", *words], cwd=DEPLOY, env=clean | given) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                process.kill()


def test_it_answers_what_it_has_begun_when_it_is_told_to_end(web: tuple[subprocess.Popen[bytes], str]) -> None:
    process, url = web

    def answers(path: str, says: str) -> bool:
        try:
            answer = httpx.get(url + path, timeout=PATIENCE_S)
        except httpx.TransportError:
            assert process.poll() is None, "it has ended"
            return False
        return answer.status_code == 200 and says in answer.text

    wait_until(lambda: answers("/readyz", '"ready":true'), "that it is up")
    with ThreadPoolExecutor(1) as thread:
        total = thread.submit(httpx.get, f"{url}/total?prices=1,2&seconds=4", timeout=PATIENCE_S)
        wait_until(lambda: answers("/metrics", 'lifepool_workers{pool="shop",state="busy"} 1.0'), "that the task runs")
        process.send_signal(signal.SIGTERM)
        assert total.result(PATIENCE_S).json() == {"total": 3.0}
    process.wait(PATIENCE_S)
    assert process.returncode in (0, -signal.SIGTERM)
