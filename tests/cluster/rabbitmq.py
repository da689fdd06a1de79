"""RabbitMQ for tests: a broker of its own on loopback, with ports and folders of its own, ended by its process."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import amqp
import psutil

from tests.cluster.celery_redis import CeleryOnRedis
from tests.cluster.servers import Program, free_port, wait_until

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator


def rabbitmq_program() -> str | None:
    """The path of RabbitMQ's own start script: Debian's around it changes to a user of its own."""
    found = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
    return found[-1] if found else shutil.which("rabbitmq-server")


class RabbitServer:
    """A RabbitMQ.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, program: str, folder: Any, *, persistent: bool = False) -> None:
        self.port = free_port()
        self._program = program
        self._folder = Path(folder)
        self._running: Program | None = None
        self._names: Program | None = None  # Erlang's own service of names
        self._names_port = free_port()

    @property
    def address(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        folder, distribution = self._folder, free_port()
        config = folder / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\nlog.file.level = warning\nlog.console = false\n"
            "vm_memory_high_watermark.relative = 0.3\ndisk_free_limit.absolute = 50MB\n"
        )
        (folder / "plugins").write_text("[].\n")
        epmd = {"ERL_EPMD_PORT": str(self._names_port), "ERL_EPMD_ADDRESS": "127.0.0.1", "HOME": str(folder)}
        if self._names is None:
            self._names = Program("epmd", log=folder / "epmd.log", **epmd)
            wait_until(lambda: _accepts(self._names_port), "epmd")
        self._running = Program(
            "sh", self._program, log=folder / "rabbitmq.log", **epmd,
            RABBITMQ_NODENAME=f"lifepool{self.port}@localhost",
            RABBITMQ_DIST_PORT=str(distribution),
            RABBITMQ_CONFIG_FILE=str(config),
            RABBITMQ_CONF_ENV_FILE=str(folder / "none"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(folder / "plugins"),
            RABBITMQ_MNESIA_BASE=str(folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(folder / "log"),
            RABBITMQ_GENERATED_CONFIG_DIR=str(folder / "config"),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
        )  # fmt: skip
        wait_until(self._answers, "RabbitMQ")

    def _answers(self) -> bool:
        assert self._running is not None
        assert self._running.is_alive(), self._running.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return len(connection.recv(100)) > 8
        return False

    def stop(self) -> None:
        """End it at once, and what it has started."""
        if self._running is not None:
            _kill_tree(self._running)
            self._running = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the broker itself."""
        assert self._running is not None
        for process in _tree(self._running.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def __enter__(self) -> RabbitServer:
        with contextlib.ExitStack() as what_started:
            what_started.push(self)
            self.start()
            what_started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._names is not None:
            self._names.kill()


class CeleryOnRabbitmq(CeleryOnRedis):
    """A queue and its nodes on RabbitMQ; all else is the same."""


@contextlib.contextmanager
def connected(server: RabbitServer) -> Iterator[Any]:
    with amqp.Connection(urlsplit(server.address).netloc.rpartition("@")[2]) as connection:
        yield connection


def has_queue(server: RabbitServer, name: str) -> bool:
    """Return whether there is a queue; a declaration would keep it alive."""
    with connected(server) as connection:
        try:
            connection.channel().queue_bind(name, "amq.direct", name)
        except amqp.NotFound:
            return False
        return True


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill_tree(program: Program) -> None:
    processes = _tree(program.pid)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    program.kill()
    psutil.wait_procs(processes, 10)
