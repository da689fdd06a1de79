"""What runs in a process of its own ends with whoever asked for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lifepool.cli.isolation import run_isolated

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20.0  # seconds
ASK = (
    "import sys; from lifepool.cli.isolation import run_isolated\n"
    "from tests.cli.test_isolation import hang; run_isolated(hang, {'address': sys.argv[1]}, 600.0)"
)


def hang(request: dict[str, Any]) -> dict[str, Any]:
    """Tell our pid and hold the GIL in C for ever."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(request["address"])
        connection.sendall(b"%d" % os.getpid())
        sum(iter(int, 1))
    return {}


def echo(request: dict[str, Any]) -> dict[str, Any]:
    print("noise")
    return request


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(str(tmp_path / "listener"))
        listener.listen()
        yield listener


def test_the_answer_comes_back_and_what_was_printed_does_not_mix_with_it(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = run_isolated(echo, {"a": [1, None]}, PATIENCE)
    assert (outcome.answer, outcome.error, outcome.left_over) == ({"a": [1, None]}, None, 0)
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no memory without a name")
def test_no_temporary_folder_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TemporaryDirectory", "TemporaryFile", "mkdtemp", "mkstemp"):
        monkeypatch.delattr("tempfile." + name)
    assert run_isolated(echo, {"a": 1}, PATIENCE).answer == {"a": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_whoever_asked(listener: socket.socket, number: int) -> None:
    command = [sys.executable, "-c", ASK, listener.getsockname()]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL) as asker:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            hanging = psutil.Process(int(connection.recv(16)))
            asker.send_signal(number)
            assert connection.recv(1) == b""  # its end of the socket is closed: it is gone
        asker.wait(PATIENCE)
    assert psutil.wait_procs([hanging], PATIENCE)[1] == []
