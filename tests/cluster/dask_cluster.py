"""Dask for tests: a scheduler, and workers by `dask worker`, which get their nodes from the first client."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from tests.cluster.servers import ROOT, Program, free_port, python, wait_until

if TYPE_CHECKING:
    import signal
    from pathlib import Path


class DaskScheduler:
    """A scheduler on a port of its own.

    Attributes:
        port: It.
    """

    def __init__(self, folder: Path, protocol: str = "tcp") -> None:
        self.port = free_port()
        self.protocol = protocol
        self._folder = folder
        self._running: Program | None = None

    @property
    def address(self) -> str:
        return f"{self.protocol}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._running = python(
            "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard",
            "--protocol", self.protocol, log=self._folder / "scheduler.log",
        )  # fmt: skip
        wait_until(self._listens, "the scheduler")

    def _listens(self) -> bool:
        assert self._running is not None
        assert self._running.is_alive(), self._running.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running = None

    def signal(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.signal(number)

    def __enter__(self) -> DaskScheduler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class DaskCluster:
    """A scheduler and its workers.

    Args:
        server: The scheduler.
        folder: For logs.
        nanny: Whether each worker has Dask's watchman, as by default. Without one it starts sooner, and holds no named
            semaphores, which tests beside it would take for leaks; but it ends without draining.

    Attributes:
        where: Options that say at which address workers are.
    """

    def __init__(self, server: DaskScheduler, folder: Path, *, nanny: bool = True) -> None:
        self.server = server
        self.where: tuple[str, ...] = ("--host", "127.0.0.1")
        self._nanny = "--nanny" if nanny else "--no-nanny"
        self._folder = folder
        self._nodes: dict[Program, tuple[int, tuple[str, ...]]] = {}
        self._deserted: list[Program] = []

    @property
    def url(self) -> str:
        return f"dask+{self.server.address}/?ahead=0"

    def start_node(
        self, workers: int = 1, *, allow: tuple[str, ...] = ("tests", "builtins", "time"), **environment: str
    ) -> Program:
        if any(name.startswith("WRONG_") for name in environment):
            environment = {"DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.cluster.odd_node", **environment}
        node = python(
            "-m", "dask", "worker", self.server.address, "--nthreads", str(workers),
            "--protocol", self.server.protocol, self._nanny, "--no-dashboard", "--local-directory", str(self._folder),
            *self.where,
            log=self._folder / f"node-{len(self._nodes)}.log", PYTHONPATH=str(ROOT),
            DASK_LIFEPOOL__ALLOW=",".join(allow), **environment,
        )  # fmt: skip
        self._nodes[node] = (workers, allow)
        wait_until(lambda: node.has_said("Registered to"), "the worker")
        return node

    def stop_server(self) -> None:
        self._deserted = [node for node in self._nodes if node.is_alive()]
        self.server.stop()

    def start_server(self) -> None:
        """Dask's workers end with their scheduler: whoever watches over them starts them anew."""
        self.server.start()
        for node in self._deserted:
            node.wait()
            workers, allow = self._nodes.pop(node)
            self.start_node(workers, allow=allow)

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            if node.is_alive():
                node.end()
