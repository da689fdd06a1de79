"""Ray for tests: a head without CPUs, and nodes by `ray start`, which get their actors from the first client."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.cluster.servers import ROOT, START_S, Program, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Whether Ray has its client, and so its client server.
HAS_CLIENT = importlib.util.find_spec("grpc") is not None
#: Bytes of an object store: it holds two payloads of 64 MiB, there and back.
STORE = 300_000_000
#: For Ray's own processes, and for our drivers: all on loopback, no token in the home folder, no questions to anybody.
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "60",
}


class RayProgram(Program):
    """`ray start --block`, and all that it has started."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; what can't be handled goes to the whole family, as if the machine had stopped."""
        family = []
        if number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT):
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(self.pid).children(recursive=True)
        super().signal(number)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number is signal.SIGKILL:
            psutil.wait_procs(family, START_S)

    def wait(self, seconds: float = START_S) -> int:
        """Wait until it has ended, and return 0 where Ray returns 1: that it was told to end."""
        code = super().wait(seconds)
        return 0 if code == 1 else code


class RayHead:
    """Ray's control service and its client server.

    Attributes:
        port: Of the former.
        client_port: Of the latter.
    """

    def __init__(self) -> None:
        self.port, self.client_port = free_port(), free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="r-"))  # short: the paths of sockets in it may have 107 bytes
        self._running: Program | None = None
        self._starts = 0

    def start(self) -> None:
        self._starts += 1
        # Its state is on disk: a head that is started again knows its nodes.
        state = self._folder / "state"
        state.mkdir(exist_ok=True)
        by_client = [f"--ray-client-server-port={self.client_port}"] if HAS_CLIENT else []
        self._running = self.run(
            "--head", f"--port={self.port}", *by_client, "--num-cpus=0",
            "--include-dashboard=false", f"--temp-dir={self._folder}", log=self._folder / f"head-{self._starts}.log",
            RAY_gcs_storage="rocksdb", RAY_gcs_storage_path=str(state), RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0",
        )  # fmt: skip
        wait_until(self._answers, "Ray's head", 60)

    def _answers(self) -> bool:
        assert self._running is not None
        assert self._running.is_alive(), self._running.log.read_text()
        for port in (self.port, self.client_port) if HAS_CLIENT else (self.port,):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return False
        return True

    def run(self, *options: str, log: Path, **environment: str) -> RayProgram:
        return RayProgram(
            sys.executable, "-m", "tests.cluster.ray_program", "start", "--block", "--node-ip-address=127.0.0.1",
            "--num-gpus=0", f"--object-store-memory={STORE}", "--disable-usage-stats", "--include-log-monitor=false",
            *options, log=log, PYTHONPATH=str(ROOT), **ENVIRONMENT, **environment,
        )  # fmt: skip

    def start_node(self, cpus: int, number: int, **environment: str) -> Program:
        log = self._folder / f"node-{number}.log"
        node = self.run(f"--address=127.0.0.1:{self.port}", f"--num-cpus={cpus}", log=log, **environment)
        wait_until(lambda: node.has_said("Ray runtime started"), "the node", 60)
        return node

    def stop(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running = None

    def signal(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.signal(number)

    def __enter__(self) -> RayHead:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class RayCluster:
    """A head and its nodes."""

    def __init__(self, server: RayHead) -> None:
        self.server = server
        self._nodes: list[Program] = []
        self._surroundings: contextlib.ExitStack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        return f"ray+gcs://127.0.0.1:{self.server.port}?ahead=0"

    @property
    def client_url(self) -> str:
        return f"ray://127.0.0.1:{self.server.client_port}?ahead=0"

    def start_node(
        self, workers: int = 1, *, allow: tuple[str, ...] = ("tests", "builtins", "time"), **environment: str
    ) -> Program:
        node = self.server.start_node(
            workers, len(self._nodes), LIFEPOOL_ALLOW=",".join(allow), RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="20",
            **environment,
        )  # fmt: skip
        self._nodes.append(node)
        return node

    def stop_server(self) -> None:
        self.server.stop()

    def start_server(self) -> None:
        self.server.start()

    def __enter__(self) -> RayCluster:
        self._surroundings.enter_context(surroundings())
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            if node.is_alive():
                node.kill()
        self._surroundings.close()


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """Have the variables that our drivers need, which they take from this process."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
