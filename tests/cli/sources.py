"""Check a piece of source as `lifepool check` does."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lifepool.cli.check.checker import check_files
from lifepool.cli.check.files import find_files
from lifepool.cli.check.rules import RULES

if TYPE_CHECKING:
    from pathlib import Path

    from lifepool.cli.check.finding import Finding

Files = dict[str, str]

#: A module with a pool that nothing in it starts.
POOL = "from lifepool import Pool\npool = Pool()\n"


def findings(folder: Path, source: str, name: str = "app.py") -> tuple[Finding, ...]:
    """Return all that every rule finds in a module."""
    file = folder / name
    file.write_text(textwrap.dedent(source), encoding="utf-8")
    return check_files([file], RULES.keys()).findings


def codes(folder: Path, source: str, name: str = "app.py") -> list[str]:
    return [finding.code for finding in findings(folder, source, name)]


def write(folder: Path, files: Files) -> None:
    for name, source in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source), encoding="utf-8")


def found(folder: Path, files: Files, only: str = "") -> list[tuple[str, str, int]]:
    """Check a project, or one file of it; return code, file and line of each finding."""
    write(folder, files)
    checked = [folder / only] if only else find_files([folder], [], folder)
    findings = check_files(checked, RULES.keys(), [folder]).findings
    return [(each.code, each.path.relative_to(folder).as_posix(), each.location.line) for each in findings]
