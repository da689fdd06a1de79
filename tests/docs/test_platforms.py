"""The package claims no Python and no system that the workflows do not test."""

from __future__ import annotations

import re
import tomllib

from tests.docs.generate import platforms
from tests.docs.markdown import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in platforms().splitlines()[2:]]


def test_the_versions_that_it_claims_are_those_that_must_pass_everywhere() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    must_pass = [python.removeprefix("CPython ") for python, linux, macos, _ in ROWS if linux == macos == "all tests"]
    assert claimed == must_pass
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_it_claims_no_system_that_is_not_tested() -> None:
    assert {row[3] for row in ROWS} == {"none"}, "Windows is tested: say so in its classifiers, and in the README"
    assert not any("Windows" in each or "OS Independent" in each for each in PROJECT["classifiers"])
    assert "not tested" in (ROOT / "README.md").read_text()
