"""Check a piece of source as `lifepool check` does."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lifepool.commands.check.rules import RULES
from lifepool.commands.check.run import check_files

if TYPE_CHECKING:
    from pathlib import Path

    from lifepool.commands.check.finding import Finding


def findings(folder: Path, source: str, name: str = "app.py") -> tuple[Finding, ...]:
    """All that every rule finds in a module."""
    file = folder / name
    file.write_text(textwrap.dedent(source), encoding="utf-8")
    return check_files([file], RULES.keys()).findings
