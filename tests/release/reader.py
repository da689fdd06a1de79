"""Somebody who has a built file of lifepool, Python, a shell and README.md, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.runner import in_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTALL_BOUND = 300  # seconds for pip, which downloads FastAPI and uvicorn
BOUND = 60  # seconds for everything else
#: Where in the page the reader stops: what comes then needs a checkout, and says so.
_CHECKOUT = "## Try a real service"


class Reader:
    """Follows the page.

    The lines are run as they stand. What is around them is arranged instead: pip finds the built file before the
    index, and uvicorn and curl take a free port in place of 8000.

    Args:
        folder: An empty one.
        artifact: A wheel or a source distribution.
    """

    def __init__(self, folder: Path, artifact: Path) -> None:
        self.work = folder / "work"
        self._bin = folder / "venv" / "bin"
        self._port = _free_port()
        for each in ("work", "dist", "home"):
            (folder / each).mkdir()
        shutil.copy(artifact, folder / "dist")
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=BOUND)
        version = re.split(r"-|\.tar", artifact.name)[1]
        (folder / "home" / "constraints.txt").write_text(f"lifepool=={version}\n")
        (folder / "home" / ".curlrc").write_text(
            f'connect-to = "localhost:8000:127.0.0.1:{self._port}"\nretry = 30\nretry-connrefused\nretry-delay = 1\n'
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LIFEPOOL"))}
        self._env = {
            **kept,
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
            "PIP_FIND_LINKS": str(folder / "dist"),
            "PIP_CONSTRAINT": str(folder / "home" / "constraints.txt"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_QUIET": "1",
            "UVICORN_PORT": str(self._port),
            "CURL_HOME": str(folder / "home"),
            "LIFEPOOL_MAX_WORKERS": "2",
        }

    def follow(self) -> Iterator[str]:
        """Do what the page says up to where it needs a checkout; yield each thing that was done.

        Raises:
            AssertionError: If the page promises something else than what happens.
        """
        first, later = _parts()
        output = ""
        with contextlib.ExitStack() as servers:
            for block in first:
                if block.comment.strip() == "output":
                    assert json.loads(output) == json.loads(block.text), output
                    yield f"{block.place}: the answer is {output}"
                elif block.language == "python":
                    (self.work / "main.py").write_text(block.text)
                    yield f"{block.place}: saved main.py"
                for line in _lines(block):
                    if line.startswith("uvicorn"):
                        servers.enter_context(self._server(line))
                    else:
                        output = self._shell(line)
                    yield f"{block.place}: {line}"
        for block in later:
            (self.work / "later.py").write_text(in_context(block))
            self._run([str(self._bin / "python"), "later.py"])
            yield f"{block.place}: ran"
        yield f"lifepool is {self._installed()}"

    def _installed(self) -> str:
        program = "import lifepool; print(lifepool.__file__)"
        where = self._run([str(self._bin / "python"), "-c", program]).strip()
        assert str(self._bin.parent) in where, "the checkout was imported"
        return where

    def _shell(self, line: str) -> str:
        return self._run(["sh", "-c", line])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.work, env=self._env, capture_output=True, text=True, timeout=INSTALL_BOUND, check=False
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def _server(self, line: str) -> Iterator[None]:
        with subprocess.Popen(["sh", "-c", f"exec {line}"], cwd=self.work, env=self._env) as server:
            try:
                yield
            finally:
                server.terminate()
                server.wait(BOUND)


def _parts() -> tuple[list[Block], list[Block]]:
    """Return the blocks of the first program, and fragments of Python after the part that needs a checkout."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    border = text[: text.index(_CHECKOUT)].count("\n")
    found = blocks(ROOT / "README.md")
    later = [each for each in found if each.line > border and each.language == "python"]
    return [each for each in found if each.line <= border], later


def _lines(block: Block) -> list[str]:
    if block.language != "sh":
        return []
    return [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
