"""The behaviour contract (docs/reference/behaviour.md) as data: its rows, and the tests that they name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.docs.markdown import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = ROOT / "docs" / "reference" / "behaviour.md"
TEXT = PAGE.read_text()


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row of each table, without headings."""
    tables = re.findall(r"(?m)^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for table in tables for line in table.splitlines()]


def proofs(row: Sequence[str]) -> list[tuple[str, str]]:
    """Return the file and the name of each test that a row names."""
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[-1])


ROWS = rows(TEXT)
