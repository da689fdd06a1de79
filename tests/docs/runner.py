"""Run the examples of a page, in order, in one folder: what a reader does who types them in.

A ``python`` block is a whole script, unless the HTML comment before it says otherwise::

    <!-- file: main.py -->          it is saved under this name, so that later blocks can use it, and run
    <!-- saved: ask.py -->          it is saved only: a later ``python ask.py`` has to run it
    <!-- context                    it is a fragment: it stands where the context says {block}
    import asyncio
    async def main():
        {block}
    -->

A file named ``test_*.py`` is run by pytest; one that is not Python is only saved. A ``sh`` block is commands:
``uvicorn`` and ``make serve`` start a server on a free port, ``curl`` asks it, ``python`` finds its address in ``URL``,
``lifepool`` is the real script, whose ``check`` may find things. Of an experiment only the import is tried: it measures
for half a minute. Of a ``dockerfile`` and of a systemd unit (``ini``) the command is run. A block whose comment is
``output`` must equal what the block before it printed; in JSON white space is free. With ``output like`` figures, units
and line breaks are free, and ``...`` stands for anything. ``is: tests/app.py`` means that the block is that file of the
repository, which another test runs. ``needs: celery`` marks code for another library: it is run where that is
installed, and else compiled; it may not use lifepool. What is not known here fails: no example is passed over.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.server import reference_service, uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMEOUT = 40  # seconds for one example, on a busy machine; usually one
NOT_RUN = frozenset({"text", "mermaid", "json", "toml", "yaml"})  # not programs


class ExampleFailed(AssertionError):
    """An example does not do what the page says."""


class Runner:
    """Runs the blocks of one page.

    Args:
        folder: Where its files are put.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = ""  # of the last command or script
        self.url = ""  # of the server that runs
        self._not_yet_run: dict[str, str] = {}  # what was only saved -> where
        self._servers = contextlib.ExitStack()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._servers.close()
        if kind is None and self._not_yet_run:
            raise ExampleFailed(f"nobody runs {self._not_yet_run}")

    def prepare(self, pages: Iterable[Path]) -> None:
        """Save the files of the pages that a reader comes from; none of them is run."""
        for block in (block for page in pages for block in blocks(page)):
            if name := _file(block):
                (self.folder / name).write_text(block.text)

    def run(self, block: Block) -> None:
        """Run one block, or compare it with what the one before printed.

        Raises:
            ExampleFailed: With the place, and what was printed.
        """
        try:
            if block.comment.strip() == "output" or block.comment.strip().startswith("is: "):
                self._compare(block)
            elif block.comment.strip() == "output like":
                self._compare_shape(block)
            elif block.language == "python":
                self.output = self._python(block)
            elif block.language == "sh":
                for command in _commands(block.text):
                    self._command(command)
            elif block.language in _SERVICE_COMMANDS:
                self._command(_service_command(block))
            elif block.language not in NOT_RUN:
                raise ExampleFailed(f"nobody knows how to run {block.language!r}")
            elif file := _file(block):
                (self.folder / file).write_text(block.text)
        except ExampleFailed as failure:
            raise ExampleFailed(f"{block.place}: {failure}") from None

    # -- python ---------------------------------------------------------------------------------------------------

    def _python(self, block: Block) -> str:
        path = self.folder / (_file(block) or f"line_{block.line}.py")
        path.write_text(in_context(block))
        if package := _needed_package(block):
            compile(block.text, path.name, "exec")
            if "lifepool" in block.text:
                raise ExampleFailed("it uses lifepool, and so must run everywhere")
            if importlib.util.find_spec(package) is None:
                return ""
        if block.comment.startswith("saved: "):
            self._not_yet_run[path.name] = block.place
            return ""
        command = [sys.executable, path.name]
        if path.name.startswith("test_"):
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path.name]
        return self._execute(command)

    def _compare(self, block: Block) -> None:
        if (name := block.comment.strip()).startswith("is: "):
            self.output = (ROOT / name.removeprefix("is: ")).read_text()
        if block.language == "json":
            same = json.loads(self.output) == json.loads(block.text)
        else:
            same = self.output.strip() == block.text.strip()
        if not same:
            raise ExampleFailed(f"the page says\n{block.text}but it is\n{self.output}")

    def _compare_shape(self, block: Block) -> None:
        pattern = ".*".join(re.escape(_without_figures(part)) for part in block.text.split("..."))
        if not re.fullmatch(pattern, _without_figures(self.output), re.DOTALL):
            raise ExampleFailed(f"the page says something like\n{block.text}but it is\n{self.output}")

    def _execute(self, command: list[str], env: dict[str, str] | None = None, fine: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "LIFEPOOL_MAX_WORKERS": "2", **(env or {})},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode not in fine:
            raise ExampleFailed(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    # -- commands -------------------------------------------------------------------------------------------------

    def _command(self, words: list[str]) -> None:
        env, words = _environment(words)
        match words:
            case ["make", "serve"]:
                self._serve(reference_service(ROOT, env))
            case ["make", target, *_]:
                _check_target(target)
            case ["pip", "install", *what]:
                _check_extras(what)
            case ["uvicorn", *arguments]:
                self._serve(uvicorn(self.folder, arguments, env))
            case ["curl", *arguments]:
                self._curl(arguments)
            case ["python", "-m", module] if module.startswith("experiments."):
                self._execute([sys.executable, "-c", f"import {module}"], {"PYTHONPATH": str(ROOT)})
            case ["lifepool", *arguments]:
                script = str(Path(sys.executable).with_name("lifepool"))
                fine = (0, 1) if arguments[:1] == ["check"] else (0,)
                self.output = self._execute(
                    [script, *self._asking(arguments)], {"COLUMNS": "80", "NO_COLOR": "1", **env}, fine
                )
            case ["python", *arguments]:
                self._not_yet_run.pop(arguments[0], None)
                self.output = self._execute([sys.executable, *arguments], {"URL": self.url, **env})
            case _:
                raise ExampleFailed(f"nobody knows how to check {shlex.join(words)!r}")

    def _serve(self, server: contextlib.AbstractContextManager[str]) -> None:
        self._servers.close()
        self.url = self._servers.enter_context(server)

    def _asking(self, arguments: list[str]) -> list[str]:
        """The arguments, with the address of the server that really runs."""
        if not self.url:
            return arguments
        return [re.sub(r"^(http://)?(localhost|127\.0\.0\.1):8000", self.url, argument) for argument in arguments]

    def _curl(self, arguments: list[str]) -> None:
        if not self.url:
            raise ExampleFailed("no server was started before this curl")
        real = self._asking(arguments)
        if real == arguments:
            raise ExampleFailed("this curl does not ask localhost:8000")
        self.output = self._execute(["curl", "--silent", "--show-error", "--max-time", "20", *real])


def in_context(block: Block) -> str:
    """The block as a whole program."""
    if not block.comment.startswith("context"):
        return block.text
    context = block.comment.partition("\n")[2]
    match = re.search(r"^( *)\{block\}$", context, re.MULTILINE)
    if match is None:
        raise ExampleFailed("its context has no line {block}")
    return context[: match.start()] + textwrap.indent(block.text, match[1]) + context[match.end() :]


_FIGURE = re.compile(r"\d[\d,.]*( (ns|µs|ms|s|bytes|[KMGT]iB)\b)?")


def _without_figures(text: str) -> str:
    return " ".join(_FIGURE.sub("#", text).split())


def _file(block: Block) -> str | None:
    match = re.match(r"(?:file|saved): ([\w.]+)\s*$", block.comment)
    return match[1] if match else None


def _needed_package(block: Block) -> str | None:
    match = re.match(r"needs: (\w+)\s*$", block.comment)
    return match[1] if match else None


_SERVICE_COMMANDS = {"dockerfile": r"^CMD (\[.*\])$", "ini": r"^ExecStart=\S*/bin/(.*)$"}


def _service_command(block: Block) -> list[str]:
    match = re.search(_SERVICE_COMMANDS[block.language], block.text, re.MULTILINE)
    if match is None:
        raise ExampleFailed(f"it has no command like {_SERVICE_COMMANDS[block.language]}")
    words: list[str] = json.loads(match[1]) if block.language == "dockerfile" else shlex.split(match[1])
    return words


def _commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _environment(words: list[str]) -> tuple[dict[str, str], list[str]]:
    env = {}
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, _, env[name] = words[0].partition("=")
        words = words[1:]
    return env, words


def _check_target(target: str) -> None:
    if not re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE):
        raise ExampleFailed(f"the Makefile has no target {target!r}")


def _check_extras(what: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in re.findall(r"\[([\w,]+)\]", " ".join(what)):
        if missing := set(name.split(",")) - set(extras):
            raise ExampleFailed(f"there is no extra {missing}")
