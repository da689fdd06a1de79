"""Celery for tests, on any broker: a queue of its own on a server, and nodes by `lifepool worker`."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.servers import Program, python, wait_until

if TYPE_CHECKING:
    from tests.cluster.servers import Server

SECRET = "a secret of the tests"
_ODD_NODE = "import tests.cluster.odd_node; from lifepool.__main__ import main; main()"


class CeleryOnRedis:
    """A queue and its nodes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.queue = f"q{uuid.uuid4().hex[:8]}"
        self._nodes: list[Program] = []
        self._folder = Path(tempfile.mkdtemp())

    @property
    def url(self) -> str:
        return f"celery+{self.server.address}?queue={self.queue}&ahead=0"

    def start_node(
        self, workers: int = 1, *, allow: tuple[str, ...] = ("tests", "builtins", "time"), **environment: str
    ) -> Program:
        allowed = [word for name in allow for word in ("--allow", name)]
        is_odd = any(name.startswith("WRONG_") for name in environment)
        lifepool = ("-c", _ODD_NODE) if is_odd else ("-m", "lifepool")
        log = self._folder / f"node-{len(self._nodes)}.log"
        node = python(
            *lifepool, "worker", "--backend", self.url, "--max-workers", str(workers), "--drain-timeout", "10",
            *allowed, log=log, **environment,
        )  # fmt: skip
        self._nodes.append(node)
        wait_until(lambda: node.has_said("the node is up"), "the node")
        return node

    def stop_server(self) -> None:
        self.server.stop()

    def start_server(self) -> None:
        self.server.start()

    def __enter__(self) -> CeleryOnRedis:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            if node.is_alive():
                node.end()
        shutil.rmtree(self._folder)
