"""Type checkers find wrong calls wrong, and right ones right: both read `cases.py`. No name leaves its type to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lifepool._engine.options import OPTION_NAMES, BatchOptions, RunOptions, TaskOptions
from lifepool._pool.decorated import decorator_options
from tests.docs.markdown import ROOT

HERE = Path(__file__).parent
#: Seconds for one checker that has nothing in its cache, on a busy machine.
PATIENCE_S = 300


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    return f"{done.stdout}{done.stderr}exit code {done.returncode}"


def test_mypy_agrees() -> None:
    said = run(sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(HERE / "cases.py"))
    assert said == "Success: no issues found in 1 source file\nexit code 0", said


def test_pyright_agrees() -> None:
    said = run(
        str(Path(sys.executable).with_name("basedpyright")),
        "--project", str(HERE), "--pythonpath", sys.executable, "--level", "error",
    )  # fmt: skip
    assert said == "0 errors, 0 warnings, 0 notes\nexit code 0", said


def test_no_public_name_leaves_its_type_to_the_checker() -> None:
    scripts = Path(sys.executable).parent  # not resolved: the environment that has lifepool, which is looked for there
    environment = os.environ | {
        "VIRTUAL_ENV": str(scripts.parent),
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    done = subprocess.run(
        (scripts / "basedpyright", "--verifytypes", "lifepool", "--ignoreexternal", "--outputjson"),
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)["typeCompleteness"]
    assert Path(report["packageRootDirectory"]) == ROOT / "src" / "lifepool"
    incomplete = {
        symbol["name"]: [found["message"] for found in symbol["diagnostics"]]
        for symbol in report["symbols"]
        if symbol["diagnostics"] and (symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"])
    }
    assert incomplete == {}
    assert report["symbols"]
    assert report["completenessScore"] == 1
    assert done.returncode == 0


def test_the_options_that_checkers_see_are_those_that_there_are() -> None:
    assert RunOptions.__annotations__.keys() == OPTION_NAMES
    given = {"timeout": 1.0, "retries": 1, "priority": 1, "fair_key": "a", "on_cancel": "abandon"}
    assert BatchOptions.__annotations__.keys() == given.keys()
    assert decorator_options("batch", TaskOptions(), given).abandon
