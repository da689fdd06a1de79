"""Real programs that make a process pool of their own run with ours under the standard name, and do the same."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.futures.helpers import ROOT

SWAP = Path(__file__).parent / "cpython"  # its sitecustomize swaps the class in every process
#: Seconds for one program on a busy machine.
PATIENCE_S = 120

UGLY = 'import os,  sys\nx = {  "a":1,\n "b":2 }\ndef f( a,b ):\n  return  a+b\n'

PROGRESS = """
from tqdm.contrib.concurrent import process_map
def square(number):
    return number * number
if __name__ == "__main__":
    print(process_map(square, range(20), max_workers=2, chunksize=3))
"""

#: What is run, in a folder with three modules. What it prints, and what it leaves there, is compared.
PROGRAMS = {
    "black": ["-m", "black", "--workers", "2", "."],
    "yapf": ["-m", "yapf", "--parallel", "--in-place", "--recursive", "."],
    "pylint": ["-m", "pylint", "-j", "2", "--rcfile=", "--score=n", "first.py", "second.py", "third.py"],
    "tqdm": ["progress.py"],
    "compileall": ["-m", "compileall", "-j", "2", "-q", "."],
}


def fill(folder: Path) -> Path:
    for name in ("first", "second", "third"):
        (folder / f"{name}.py").write_text(UGLY.replace("f(", f"{name}("))
    (folder / "progress.py").write_text(PROGRESS)
    return folder


def outcome(folder: Path, command: list[str], *, swapped: bool) -> tuple[int, str, dict[str, bytes]]:
    """Run a program; return its exit code, what it printed, and the files that are there then."""
    path = [str(ROOT / "src"), *([str(SWAP)] if swapped else [])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "BLACK_CACHE_DIR": str(folder / ".cache")}
    if swapped:
        environ["NOTE_EXECUTORS"] = str(folder / "noted")
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    printed = done.stdout + "".join(f"{line}\n" for line in sorted(done.stderr.splitlines()) if "%|" not in line)
    assert "Warning" not in printed, printed
    assert not swapped or (folder / "noted").read_text() == "made\n"  # it made one, and it was ours
    made = {p.name: _stable(p) for p in sorted(folder.rglob("*.py*")) if ".cache" not in p.parts and p.is_file()}
    return done.returncode, re.sub(re.escape(str(folder)), "", printed), made


def _stable(path: Path) -> bytes:
    """Return the content, of compiled files without the time of their source."""
    content = path.read_bytes()
    return content[16:] if path.suffix == ".pyc" else content


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_does_the_same_as_with_the_standard_class(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    outcomes = [
        outcome(fill(tmp_path_factory.mktemp(name)), PROGRAMS[name], swapped=swapped) for swapped in (False, True)
    ]
    assert outcomes[0] == outcomes[1]
