"""Run the reference service on a cluster, all on this machine: Redis, two nodes, and the service.

``make serve-cluster`` does this. The service itself is not changed: one variable tells its pool where to run tasks.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

NODES = 2
UP_S = 30.0  # seconds for Redis to answer


def main() -> None:
    """Start all, and end all when the service ends."""
    port = free_port()
    backend = f"celery+redis://127.0.0.1:{port}/0"
    environment = {**os.environ, "LIFEPOOL_SECRET": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        # Debian's redis-check-rdb is the server as well: it looks at its own name.
        stack.callback(end, start(redis, executable=redis_server(), stdout=subprocess.DEVNULL))
        wait_for(port)
        worker = [sys.executable, "-m", "lifepool", "worker", "--backend", backend, "--allow", "examples.domains"]
        for _ in range(NODES):
            stack.callback(end, start([*worker, "--max-workers", "1"], env=environment))
        service = start([sys.executable, "-m", "examples.domains"], env={**environment, "LIFEPOOL_BACKEND": backend})
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.send_signal(signal.SIGTERM))
        service.wait()


def start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a program of ours."""
    return subprocess.Popen(command, **options)  # noqa: S603


def redis_server() -> str:
    """Return the path of a Redis server; Debian has it under two names."""
    found = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if found is None:
        raise SystemExit("there is no redis-server: run `sh scripts/ensure-redis.sh`")
    return found


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until something listens there."""
    deadline = time.monotonic() + UP_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit("Redis does not come up")


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a program: politely, then not."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
