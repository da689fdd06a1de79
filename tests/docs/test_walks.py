"""The map of the code in docs/architecture.md is true, and so is CONTRIBUTING.md: what they name is there."""

from __future__ import annotations

import ast
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import lifepool
from lifepool import Pool, TaskTimeout, WorkerLost
from tests import tasks
from tests.docs.markdown import ROOT
from tests.engine.gates import Gate
from tests.faults.inside import let_time_pass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PACKAGE = Path(lifepool.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
LONG = 100.0  # seconds that pass on the pool's clock alone


class Step(NamedTuple):
    """One line of a way: the file below the package, the qualified name, and whether a worker runs it."""

    file: str
    name: str
    in_worker: bool


def walk(name: str) -> list[Step]:
    """The steps of one way through the code, as the page has them."""
    listed = PAGE.split(f"<!-- walk: {name} -->\n")[1].split("\n\n")[0]
    lines = re.findall(r"^\d+\. `([\w/.]+):([\w.]+)`( \(\*worker\*\))?", listed, re.MULTILINE)
    assert len(lines) == len(listed.splitlines()), "each line names one function"
    return [Step(file, function, bool(worker)) for file, function, worker in lines]


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


def functions(file: Path) -> set[str]:
    """The qualified names of the functions of a file: its own, and those of its classes."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(owner + part.name)
    return found


@contextmanager
def recorded() -> Iterator[list[tuple[str, str]]]:
    """Collect (file, qualified name) of each function of the package that this thread calls."""
    calls: list[tuple[str, str]] = []
    prefix = f"{PACKAGE}{os.sep}"

    def on_event(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(prefix):
            calls.append((Path(code.co_filename).relative_to(PACKAGE).as_posix(), code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def check_order(name: str, calls: list[tuple[str, str]]) -> None:
    """Find the server's steps of a way among what was called, each after the one before it."""
    ahead = iter(calls)
    for step in walk(name):
        if not step.in_worker:
            assert (step.file, step.name) in ahead, (
                f"{step.file}:{step.name} is not called, or earlier than the page says"
            )


@pytest.mark.parametrize("name", ["call", "death", "timeout"])
def test_every_step_exists(name: str) -> None:
    steps = walk(name)
    assert [step for step in steps if not (PACKAGE / step.file).exists()] == []
    missing = [step for step in steps if step.name not in functions(PACKAGE / step.file)]
    assert missing == []


async def test_a_call_goes_this_way() -> None:
    async with Pool(max_workers=1) as pool:
        with recorded() as calls:
            assert await pool.submit(tasks.double, 2) == 4
    check_order("call", calls)


async def test_a_death_goes_this_way() -> None:
    async with Pool(max_workers=1) as pool:
        with recorded() as calls:
            with pytest.raises(WorkerLost):
                await pool.submit(os._exit, 3)
            assert await pool.run(tasks.double, 2) == 4  # by the successor
    check_order("death", calls)


async def test_a_timeout_goes_this_way() -> None:
    with Gate() as gate:
        async with Pool(max_workers=1) as pool:
            handle = pool.submit(tasks.hold_stubbornly, gate.address, timeout=LONG)
            await gate.arrival()
            with recorded() as calls:
                let_time_pass(pool, LONG)
                with pytest.raises(TaskTimeout):
                    await handle
                assert await pool.run(tasks.double, 2) == 4  # by the successor
    check_order("timeout", calls)


def test_an_order_that_is_not_real_is_noticed() -> None:
    calls = [(step.file, step.name) for step in walk("call") if not step.in_worker]
    check_order("call", calls)
    with pytest.raises(AssertionError, match="earlier than the page says"):
        check_order("call", calls[::-1])


def test_every_room_and_module_is_in_the_table() -> None:
    listed = set(re.findall(r"`([\w/]+(?:\.py|/))`", section("The rooms")))
    folders = [path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]
    rooms = {f"{folder.name}/" for folder in folders if folder.parent == PACKAGE}
    rooms |= {f"backends/local{inner}/" for inner in ("", *(f"/{f.name}" for f in folders if f.parent.name == "local"))}
    modules = {path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert (rooms | modules) - listed == set()


def test_every_listed_room_and_module_exists() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", section("The rooms"), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert [name for name in listed if not (PACKAGE / name).exists()] == []


def test_what_to_change_exists() -> None:
    rows = re.findall(r"^\| an? .*\|$", section("Where do I change what"), re.MULTILINE)
    assert len(rows) == 14
    for row in rows:
        paths = re.findall(r"`((?:src|tests|docs)/[^`]+)`", row)
        assert len(paths) >= 2, row
        assert [path for path in paths if not (ROOT / path).exists()] == []


def test_contributing_names_commands_and_paths_that_exist_on_one_page() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make (?:PYTHON=\S+ )?([a-z-]+)`", text)) - targets == set()
    paths = re.findall(r"`((?:tests|docs|requirements)/[^`]+|pyproject\.toml)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert text.count("\n") < 80
