"""Check a piece of source as `lifepool check` does."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lifepool.cli.check.checker import check_files
from lifepool.cli.check.rules import RULES

if TYPE_CHECKING:
    from pathlib import Path

    from lifepool.cli.check.finding import Finding


def findings(folder: Path, source: str, name: str = "app.py") -> tuple[Finding, ...]:
    """Return all that every rule finds in a module."""
    file = folder / name
    file.write_text(textwrap.dedent(source), encoding="utf-8")
    return check_files([file], RULES.keys()).findings


def codes(folder: Path, source: str, name: str = "app.py") -> list[str]:
    return [finding.code for finding in findings(folder, source, name)]
