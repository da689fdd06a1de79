"""`lifepool top`: against a real server, in a real terminal, and where there is nothing to see."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import io
import json
import os
import pty
import re
import selectors
import signal
import struct
import subprocess
import termios
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from rich.console import Console

from lifepool.cli.top import quantities as units
from lifepool.cli.top.headers import parsed
from lifepool.cli.top.source import NoPage, Source
from lifepool.cli.top.view import View, sparkline
from tests.cli.runner import SCRIPT, lifepool
from tests.integrations.serving import Server, end, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("tests.dashboard.loaded:app", "--no-access-log") as server:
        httpx.get(f"{server.url}/fail", timeout=PATIENCE_S, verify=False)
        httpx.get(f"{server.url}/double", params={"times": 20}, timeout=PATIENCE_S, verify=False)
        yield server
        if server.process.poll() is None:
            assert end(server) == []


# --- a real server --------------------------------------------------------------------------------------------------


def test_one_screen_shows_the_pool(server: Server) -> None:
    for url in (f"{server.url}/pool", f"{server.url}/pool/", f"{server.url}/pool/state.json", server.url[7:] + "/pool"):
        done = lifepool("top", url, "--once", COLUMNS="80")
        assert (done.returncode, done.stderr) == (0, "")
        assert "documents  running, ready" in done.stdout
        assert re.search(r"#1 +ready", done.stdout)
        assert "double" in done.stdout
        assert "ValueError in <img" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_it_prints_the_state_for_programs(server: Server) -> None:
    done = lifepool("top", f"{server.url}/pool", "--json")
    assert json.loads(done.stdout)["pool"]["name"] == "documents"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nothing", "there is no live page at .*/nothing/ .404.: mount one"),
        ("/read/only/static", "there is no live page"),
    ],
)
def test_an_address_without_a_page_says_what_to_do(server: Server, path: str, message: str) -> None:
    done = lifepool("top", f"{server.url}{path}", "--once")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(f"lifepool top: {message}", done.stderr)


def test_it_lives_in_a_terminal_until_ctrl_c_and_says_when_the_server_is_gone(server: Server) -> None:
    """Last of those with the server: it ends it."""
    with terminal(SCRIPT, "top", f"{server.url}/pool", "--interval", "0.2") as (process, screen):
        screen.read_until("documents")
        screen.read_until("running, ready")
        assert end(server) == []
        screen.read_until("disconnected")
        process.send_signal(signal.SIGINT)  # as Ctrl-C does
        assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in screen.seen


class Screen:
    """The far side of a terminal of 80 by 24."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.seen = ""

    def read_until(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            while text not in self.seen:
                assert selector.select(max(0.0, deadline - time.monotonic())), f"no {text!r} in {self.seen!r}"
                self.seen += re.sub(
                    r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self._descriptor, 65536).decode(errors="replace")
                )


@contextlib.contextmanager
def terminal(*command: Any) -> Iterator[tuple[subprocess.Popen[bytes], Screen]]:
    """Run a command in a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    env["TERM"] = "xterm-256color"
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    try:
        yield process, Screen(ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
        os.close(ours)


# --- somebody else --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Run a server that always gives the same answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("x-asked-with", self.headers.get("authorization", ""))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/pool"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>hello</html>", "is no live page"),
        (200, b"[1]", "is no live page"),
        (200, b'{"status": "ok"}', "is no live page"),
        (200, b'{"lifepool": "9.9", "version": 99, "cursor": "x-1"}', "runs lifepool 9.9"),
        (401, b"", "--header"),
        (500, b"", "answers with status 500"),
    ],
)
def test_an_answer_that_is_no_page_is_recognised(status: int, body: bytes, message: str) -> None:
    with answering(status, body) as url, pytest.raises(NoPage, match=message):
        Source(url, {}).read()


def test_nobody_there_is_said() -> None:
    done = lifepool("top", "http://127.0.0.1:9/pool", "--once")
    assert done.returncode == 1
    assert "nobody answers at http://127.0.0.1:9/pool/" in done.stderr


@pytest.mark.parametrize("url", ["ftp://host/pool", "http://", "file:///etc/passwd"])
def test_only_addresses_of_the_web_are_asked(url: str) -> None:
    with pytest.raises(NoPage, match="is no address such as"):
        Source(url, {})


def test_headers_are_read_as_they_are_typed() -> None:
    assert parsed(["Authorization: Bearer a:b"]) == {"Authorization": "Bearer a:b"}
    for wrong in ("Authorization", ": x", "A: b\r\nC: d"):
        with pytest.raises(NoPage, match="expected"):
            parsed([wrong])


# --- the screen -----------------------------------------------------------------------------------------------------


def state(workers: int) -> dict[str, Any]:
    many = [
        {"number": n, "state": "busy", "task": n, "task_name": "f\x1b[2J", "running_s": n / 10, "pending": 0,
         "completed": 10**6, "age_s": 9e5, "memory_bytes": 3 << 30, "pid": n}
        for n in range(workers)
    ]  # fmt: skip
    failure = {"error": "ValueError", "name": "f" * 99, "count": 7, "last": 1.0, "message": "[red]no\x07\nsecond line"}
    name = {"name": "f" * 99, "count": 10**7, "failures": 3, "run_mean": 1e-5, "run_max": 99.0, "run_sum": 1e6}
    return {
        "continued": False, "now": 100.0, "time": 0.0, "server": {"pid": 1, "host": "h" * 70},
        "pool": {"name": "p", "state": "running", "ready": False, "reasons": ["saturated"], "max_queue": 1000},
        "counts": {"workers": {"busy": workers}, "queued": 3, "predicted_wait_s": 0.5},
        "window": {"completed": 12345.0, "failed": 1.0, "wait": [0.1, 0.2, 0.3], "run": [None] * 3, "loop_lag": 0.0},
        "history": {"columns": ["completed", "utilisation", "queued", "wait_p50", "run_p50", "loop_lag"],
                    "points": [[n, n / 100, n, None, 0.1, 0] for n in range(99)]},
        "workers": many, "failures": [failure] * 30, "names": [name] * 30,
    }  # fmt: skip


@pytest.mark.parametrize("workers", [0, 1, 8, 64])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (200, 60)])
def test_it_fits_the_terminal(workers: int, width: int, height: int) -> None:
    view, output = View(), io.StringIO()
    view.take(state(workers))
    console = Console(file=output, width=width, height=height, force_terminal=False)
    console.print(view.draw(state(workers), width, height, "disconnected"))
    lines = output.getvalue().splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "running, not ready (saturated)" in lines[0]
    if workers == 64 and height == 24:
        assert any("#63" in line for line in lines), "the one that has been running for longest"
        assert any(re.search(r"and \d+ more", line) for line in lines)


def test_the_worst_is_said_first_and_short_tasks_are_no_invented_figures() -> None:
    view, output = View(), io.StringIO()
    now = state(2)
    now["pool"] |= {"ready": True, "reasons": []}
    now["verdict"] = {"level": "bad", "text": "Refusing 79 % of calls."}
    now["window"] |= {"run": [50e-6, 1e-4, 1e-4], "shortest": 50e-6, "utilisation": 0.004}
    view.take(now)
    Console(file=output, width=120, height=40, force_terminal=False).print(view.draw(now, 120, 40))
    lines = output.getvalue().splitlines()
    assert lines[1].startswith("Refusing 79 % of calls.")
    assert re.search(r"run p50 +< 50 µs +p95 100 µs", output.getvalue())
    assert re.search(r"utilisation +< 1 % +2 of 2 workers have a task", output.getvalue())


def test_nothing_that_a_terminal_would_obey_reaches_it() -> None:
    view, output = View(), io.StringIO()
    view.take(state(2))
    Console(file=output, width=120, height=60, force_terminal=False).print(view.draw(state(2), 120, 60))
    assert "\x1b" not in output.getvalue()
    assert "\x07" not in output.getvalue()
    assert "[red]no." in output.getvalue()


def test_bars_stand_for_values() -> None:
    assert sparkline([0, 1, None, 8, 4]) == " ▁ █▄"
    assert sparkline([0.5, 2.0], top=1.0) == "▄█"
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "  "


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (units.seconds(None), "-"), (units.seconds(0), "0 ms"), (units.seconds(85e-6), "85 µs"),
        (units.seconds(0.0123), "12.3 ms"), (units.seconds(3.5), "3.50 s"), (units.seconds(1234.0), "1,234 s"),
        (units.age(59.0), "59 s"), (units.age(7300.0), "2 h"), (units.memory(3 << 30), "3.00 GiB"),
        (units.memory(2048), "2 KiB"), (units.rate(0), "0 /s"), (units.rate(12345.6), "12,346 /s"),
        (units.percent(0.875), "88 %"), (units.count(12345), "12,345"), (units.plain("a\x1bb\n"), "a.b."),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_and_a_unit(found: str, expected: str) -> None:
    assert found == expected
