"""Redis and RabbitMQ, for as long as a measurement takes: on loopback, and gone with all they wrote after it."""

import glob
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil

HOST = "127.0.0.1"
UP_BOUND_S = 10.0
RABBITMQ_UP_BOUND_S = 40.0
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
            _wait_until_up(process, port, UP_BOUND_S)
            yield f"redis://:{password}@{HOST}:{port}/0"
        finally:
            end(process)


def rabbitmq_program() -> str | None:
    """Return RabbitMQ's own start script, or None; Debian's around it changes to a user of its own."""
    found = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
    return found[-1] if found else shutil.which("rabbitmq-server")


@contextmanager
def rabbitmq() -> Iterator[str]:
    """Run a RabbitMQ; its address is given to the block. Its user has the name and the password that it comes with.

    Raises:
        RuntimeError: If there is none, or it does not come up.
    """
    program = rabbitmq_program()
    if program is None:
        raise RuntimeError("there is no rabbitmq-server: run scripts/ensure-rabbitmq.sh")
    port, names_port = _free_port(), _free_port()
    with ExitStack() as ends:
        folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-rabbitmq-"))
        Path(folder, "rabbitmq.conf").write_text(
            f"listeners.tcp.local = {HOST}:{port}\nlog.file.level = warning\nlog.console = false\n"
            "vm_memory_high_watermark.relative = 0.3\ndisk_free_limit.absolute = 50MB\n"
        )
        Path(folder, "plugins").write_text("[].\n")
        names = {"ERL_EPMD_PORT": str(names_port), "ERL_EPMD_ADDRESS": HOST, "HOME": folder}
        settings = {
            "NODENAME": f"benchmark{port}@localhost", "DIST_PORT": str(_free_port()),
            "CONFIG_FILE": f"{folder}/rabbitmq.conf", "CONF_ENV_FILE": f"{folder}/none",
            "ENABLED_PLUGINS_FILE": f"{folder}/plugins", "MNESIA_BASE": f"{folder}/mnesia",
            "LOG_BASE": f"{folder}/log", "GENERATED_CONFIG_DIR": f"{folder}/config",
            "SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }  # fmt: skip
        environment = {**os.environ, **names, **{f"RABBITMQ_{name}": value for name, value in settings.items()}}
        ends.callback(end, _started(["epmd"], environment))
        server = _started(["sh", program], environment)
        ends.callback(_end_family, server)
        _wait_until_up(server, port, RABBITMQ_UP_BOUND_S)
        yield f"amqp://guest:guest@{HOST}:{port}//"


def _started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def _end_family(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started: a script does not pass on what it is told."""
    children = psutil.Process(process.pid).children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    end(process)
    psutil.wait_procs(children, END_BOUND_S)


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


def _wait_until_up(process: subprocess.Popen[bytes], port: int, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(POLL_S)
    raise RuntimeError(f"the server did not come up: exit code {process.poll()}")


def worker_environment(broker: str) -> dict[str, str]:
    """Return the environment of a Celery worker. It runs as root only if that is allowed explicitly."""
    return {**os.environ, "BENCHMARK_BROKER": broker, "C_FORCE_ROOT": "1"}
