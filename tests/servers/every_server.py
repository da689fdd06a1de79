"""Each server and framework that the documentation names, with a pool in it: it serves, and leaves nothing behind.

They need an environment of their own, so `make test-servers` runs this file, not `make test`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests import gone

if TYPE_CHECKING:
    from collections.abc import Iterator

APPS = Path(__file__).parent / "apps"
PATIENCE_S = 50.0
_FIRST_PORT = 20_000 + 500 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = iter(range(_FIRST_PORT, _FIRST_PORT + 500))
_BETWEEN_S = 0.05  # between two tries to connect: a server offers nothing to wait on before it listens

_GUNICORN = ["gunicorn", "-w=2", "--no-control-socket", "--bind={host}:{port}"]
SERVERS = {
    "uvicorn": ["uvicorn", "--host={host}", "--port={port}"],
    "uvicorn with workers": ["uvicorn", "--host={host}", "--port={port}", "--workers=2"],
    "uvicorn that reloads": ["uvicorn", "--host={host}", "--port={port}", "--reload"],
    "gunicorn": [*_GUNICORN, "-k=asgi"],
    "gunicorn that preloads": [*_GUNICORN, "-k=asgi", "--preload"],
    "gunicorn with uvicorn": [*_GUNICORN, "-k=uvicorn.workers.UvicornWorker"],
    "hypercorn": ["hypercorn", "--bind={host}:{port}"],
    "granian": ["granian", "--interface=asgi", "--host={host}", "--port={port}"],
    "granian with workers": ["granian", "--interface=asgi", "--workers=2", "--host={host}", "--port={port}"],
}


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server, wait until it answers, and give it with its address; afterwards nothing of it may be left."""
    port = _free_port()
    filled = [word.format(host="127.0.0.1", port=port) for word in command]
    process = subprocess.Popen(
        filled, cwd=APPS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(APPS), "LIFEPOOL_MAX_WORKERS": "1"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(process, url)
        yield process, url
    finally:
        family = _family(process)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        output, _ = process.communicate(timeout=PATIENCE_S)
        print(output)
        gone.still_there(family, PATIENCE_S)


def _free_port() -> int:
    """Find a port that the kernel gives to no connection, and no other test to its server, until this server has it."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all are taken")


def _wait_until_it_answers(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(httpx.TransportError):
            assert httpx.get(f"{url}/double/1", timeout=PATIENCE_S).text == "2"
            return
        time.sleep(_BETWEEN_S)
    raise AssertionError("the server never answered")


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        main = psutil.Process(process.pid)
        return [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _ask(url: str, n: int) -> str:
    return httpx.get(f"{url}/double/{n}", timeout=PATIENCE_S).text


def _wait_until_all_answer(url: str, count: int) -> None:
    """Wait for each of several processes: gunicorn's that is told to end while it starts ends with an error."""
    seen: set[str] = set()
    deadline = time.monotonic() + PATIENCE_S
    with ThreadPoolExecutor(8) as threads:
        while len(seen) < count:
            assert time.monotonic() < deadline, seen
            seen |= set(threads.map(lambda _: httpx.get(f"{url}/pid", timeout=PATIENCE_S).text, range(8)))


def _serves_and_ends(process: subprocess.Popen[str], url: str, processes: int = 1) -> None:
    """Ask it many times at once; then have it end by SIGTERM, with all that belongs to it."""
    if processes > 1:
        _wait_until_all_answer(url, processes)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: _ask(url, n), range(40)))
    assert answers == [str(2 * n) for n in range(40)]
    family = _family(process)
    assert len(family) > 2  # the server, the template and a worker at least
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    assert gone.still_there(family, PATIENCE_S) == []


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_serves_and_ends_with_its_pool(server: str) -> None:
    program, *arguments = SERVERS[server]
    processes = 2 if {"-w=2", "--workers=2"} & set(arguments) else 1
    with _started([sys.executable, "-m", program, *arguments, "fastapi_app:app"]) as (process, url):
        _serves_and_ends(process, url, processes)


@pytest.mark.parametrize("framework", ["starlette", "litestar", "quart", "django"])
def test_a_framework_has_a_pool(framework: str) -> None:
    with _started([sys.executable, "-m", *SERVERS["uvicorn"], f"{framework}_app:app"]) as (process, url):
        _serves_and_ends(process, url)


def test_aiohttp_has_a_pool() -> None:
    with _started([sys.executable, "aiohttp_app.py", "{port}"]) as (process, url):
        _serves_and_ends(process, url)


def test_a_program_without_a_server_has_a_pool() -> None:
    ran = subprocess.run(
        [sys.executable, "plain.py"], cwd=APPS, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert ran.stdout == "[0, 2, 4, 6, 8]\n"


def test_gunicorn_replaces_its_processes_and_no_request_is_lost() -> None:
    """`--max-requests`: each process ends after so many requests, with its pool, and another one starts."""
    command = [sys.executable, "-m", *SERVERS["gunicorn"], "--max-requests=20", "fastapi_app:app"]
    with _started(command) as (process, url):
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda n: _ask(url, n), range(100)))
        assert answers == [str(2 * n) for n in range(100)]
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert len(re.findall("Booting worker", output)) > 2


def test_each_server_is_in_the_documentation() -> None:
    page = (APPS.parents[2] / "docs" / "how-to" / "other-frameworks.md").read_text()
    for name in {name.split()[0] for name in SERVERS}:
        assert name in page
