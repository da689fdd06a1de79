"""Runs the scripts of `tests/scripts` as programs of their own, and finds every process they started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "scripts"
BOUND_S = 30.0
_MARK = "LIFEPOOL_TEST_MARK"


def environment(**more: str) -> dict[str, str]:
    """The environment for a script, with a mark that all its descendants inherit."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, _MARK: uuid.uuid4().hex, **more}


def marked(env: dict[str, str]) -> list[psutil.Process]:
    """Every process with this environment's mark, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == env[_MARK]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def nothing_left(env: dict[str, str], within: float = 20.0) -> bool:
    """Whether every marked process is gone, or goes within so many seconds; ends those that don't."""
    deadline = time.monotonic() + within
    while left := marked(env):
        if time.monotonic() > deadline:
            for process in left:
                process.kill()
            return False
        psutil.wait_procs(left, timeout=0.05)
    return True


@dataclass
class Finished:
    """What came of a program."""

    code: int
    out: str
    err: str
    left_nothing: bool

    @property
    def text(self) -> str:
        return self.out + self.err


def run_script(*arguments: str, cwd: Path = ROOT, **more: str) -> Finished:
    """Run ``python <arguments>`` to its end, which must come within `BOUND_S`."""
    env = environment(**more)
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            start_new_session=True,
        )
    finally:
        left_nothing = nothing_left(env)
    return Finished(done.returncode, done.stdout, done.stderr, left_nothing)


@contextmanager
def talking_to(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a script with pipes to it and from it; at the end it is killed, and nothing of it may be left."""
    env = environment()
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / script), *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            assert nothing_left(env)


@dataclass
class Server:
    """A running `tests/scripts/server.py`.

    Attributes:
        workers: The pids of its workers.
        template: The pid of the process that they were forked from.
    """

    process: subprocess.Popen[str]
    env: dict[str, str]
    workers: list[int]
    template: int

    def ask(self) -> int:
        """Have a task run; returns the pid of its worker."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def serving(*states: str) -> Iterator[Server]:
    """Start the server with workers in these states; end it, whatever happens."""
    env = environment()
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "server.py"), "--serve", *states],
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            *workers, template = map(int, process.stdout.readline().split())
            yield Server(process, env, workers, template)
        finally:
            process.kill()
            nothing_left(env)
