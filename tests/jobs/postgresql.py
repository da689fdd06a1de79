"""A PostgreSQL server for the tests: data of its own, on a Unix socket, gone when the tests are over."""

from __future__ import annotations

import glob
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
_STARTS_WITHIN = 30.0
_STOPS_WITHIN = 5.0
#: The database in which each store has a schema of its own: a database for each would take ten times as long.
DATABASE = "jobs"


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

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect as an administrator."""
        import psycopg

        return psycopg.connect(self._url(database), autocommit=True, connect_timeout=5)

    def new_store(self) -> str:
        """Make an empty schema; the URL of a store in it."""
        name = f"store{next(self._numbers)}"
        with self.connect(DATABASE) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        url = self._url(DATABASE).replace("postgresql:", "postgresql+psycopg:")
        return f"{url}&options=-csearch_path%3D{name}"

    def _url(self, database: str) -> str:
        return f"postgresql://{self._user}@/{database}?host={self._host}"

    def kill_connections(self) -> int:
        """End all connections to stores, as an administrator or a network may."""
        with self.connect() as connection:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            return len(connection.execute(query, (DATABASE,)).fetchall())


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
        _make_data(f"{folder}/initdb", f"{root}/data", user)
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
        process = subprocess.Popen(
            arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/", **_identity(user)
        )
        try:
            found = Server(root, user)
            _wait_for(found, process)
            with found.connect() as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
            yield found
        finally:
            _stop(process)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _identity(user: str) -> dict[str, Any]:
    """Return how a process is started as the user that PostgreSQL runs as."""
    if os.getuid() != 0:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _make_data(initdb: str, data: str, user: str) -> None:
    command = [initdb, "-D", data, "-U", user, "-A", "trust", "--no-sync", "--no-instructions"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=50, check=False, **_identity(user))
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it at once: its data is not needed any more. What does not end is killed."""
    with suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
        try:
            process.wait(_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
        _, alive = psutil.wait_procs(children, _STOPS_WITHIN)
        for child in alive:
            child.kill()
    process.wait(_STOPS_WITHIN)


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
