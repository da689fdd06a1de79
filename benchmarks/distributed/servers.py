"""Redis, for as long as a measurement takes: on loopback, with a password, keeping nothing on disk."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

HOST = "127.0.0.1"
UP_BOUND_S = 10.0
END_BOUND_S = 5.0
POLL_S = 0.02


def redis_program() -> list[str] | None:
    """Return the program to execute and the name it is to go by, or None.

    Debian has the same program in ``redis-tools``, under the name of its checker; it looks at its name to know which of
    the two it is to be. That package starts no service, unlike ``redis-server``.
    """
    if found := shutil.which("redis-server"):
        return [found, "redis-server"]
    if found := shutil.which("redis-check-rdb"):
        return [found, "redis-server"]
    return None


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis; the address, password included, is given to the block.

    Raises:
        RuntimeError: If there is none, or it does not come up.
    """
    program = redis_program()
    if program is None:
        raise RuntimeError("there is no redis-server: run scripts/ensure-redis.sh")
    executable, name = program
    password, port = secrets.token_hex(16), _free_port()
    with tempfile.TemporaryDirectory(prefix="benchmark-redis-") as folder:
        settings = Path(folder, "redis.conf")
        settings.touch(mode=0o600)
        lines = [f"bind {HOST}", f"port {port}", f"requirepass {password}", f"dir {folder}", 'save ""', "appendonly no"]
        settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
        process = subprocess.Popen([name, str(settings)], executable=executable, stdout=subprocess.DEVNULL)
        try:
            _wait_until_up(process, port)
            yield f"redis://:{password}@{HOST}:{port}/0"
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started: politely, then not."""
    process.terminate()
    try:
        process.wait(END_BOUND_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_BOUND_S)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    limit = time.monotonic() + UP_BOUND_S
    while time.monotonic() < limit and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(POLL_S)
    raise RuntimeError(f"redis-server did not come up: exit code {process.poll()}")


def worker_environment(broker: str) -> dict[str, str]:
    """Return the environment of a Celery worker. It runs as root only if that is allowed explicitly."""
    return {**os.environ, "BENCHMARK_BROKER": broker, "C_FORCE_ROOT": "1"}
