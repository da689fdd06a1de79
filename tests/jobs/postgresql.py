"""A PostgreSQL server for the tests: data of its own, on a Unix socket, gone when the tests are over."""

from __future__ import annotations

import glob
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
_STARTS_WITHIN = 30.0


def programs() -> str | None:
    """The folder with `initdb` and `postgres`."""
    found = [os.environ.get("POSTGRESQL", ""), *(path for pattern in _FOLDERS for path in sorted(glob.glob(pattern)))]
    found += [str(Path(path).resolve().parent) for path in [shutil.which("initdb")] if path]
    return next((path for path in found if path and os.access(f"{path}/postgres", os.X_OK)), None)


class Server:
    """A server that runs."""

    def __init__(self, socket_folder: str, user: str) -> None:
        self._host = socket_folder
        self._user = user
        self._numbers = itertools.count()

    def new_database(self) -> str:
        """Make an empty database; its URL."""
        name = f"jobs{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name).replace("postgresql:", "postgresql+psycopg:")

    def url(self, database: str) -> str:
        return f"postgresql://{self._user}@/{database}?host={self._host}"

    def kill_connections(self, url: str) -> int:
        """End all connections to a database, as an administrator or a network may."""
        name = url.partition("@/")[2].partition("?")[0]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            return len(connection.execute(query, (name,)).fetchall())


@contextmanager
def server() -> Iterator[Server]:
    """Start a server and end it."""
    folder = programs()
    if folder is None:
        raise RuntimeError("there is no PostgreSQL: run `sh scripts/ensure-postgresql.sh`")
    root = tempfile.mkdtemp(prefix="lp-pg-", dir="/tmp")  # a socket's path must be short
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(root, user)
    try:
        _run([f"{folder}/initdb", "-D", f"{root}/data", "-U", user, "-A", "trust", "--no-sync"])
        options = {
            "listen_addresses": "",
            "unix_socket_directories": root,
            "fsync": "off",  # a test kills processes, not the machine
            "autovacuum": "off",
            "dynamic_shared_memory_type": "mmap",
            "max_connections": "200",
            "shared_buffers": "16MB",
        }
        arguments = [f"{folder}/postgres", "-D", f"{root}/data"]
        arguments += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with subprocess.Popen(
            _as_user(arguments), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/"
        ) as process:
            try:
                found = Server(root, user)
                _wait_for(found, process)
                yield found
            finally:
                # runuser passes it on. SIGINT: a fast shutdown, which does not wait for clients.
                _interrupt(f"{root}/data/postmaster.pid")
                process.wait(20)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _as_user(arguments: Sequence[str]) -> list[str]:
    return [*(["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []), *arguments]


def _run(arguments: Sequence[str]) -> None:
    done = subprocess.run(_as_user(arguments), capture_output=True, text=True, cwd="/", timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} failed: {done.stderr[-2000:]}")


def _interrupt(pid_file: str) -> None:
    import signal

    try:
        os.kill(int(Path(pid_file).read_text().split()[0]), signal.SIGINT)
    except (FileNotFoundError, ProcessLookupError):
        return


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
