"""What the pages quote of error messages is in the code, so that readers find it by the words that they see."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

import lifepool
from tests.docs.markdown import ROOT

PAGE = ROOT / "docs" / "how-to" / "troubleshoot-a-start.md"


@functools.cache
def texts() -> list[str]:
    """Every string constant of the package."""
    return [
        node.value
        for path in Path(lifepool.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def quoted(page: Path) -> list[str]:
    """What stands between backticks in the first column of the tables that are marked, but for names."""
    cells = []
    for table in page.read_text().split("<!-- messages -->\n")[1:]:
        rows = table.partition("\n\n")[0].splitlines()[2:]
        cells += [row.split(" | ")[0] for row in rows]
    return [text for cell in cells for text in re.findall(r"`([^`]+)`", cell) if " " in text]


def is_said(text: str) -> bool:
    return any(text in constant for constant in texts())


@pytest.mark.parametrize("text", quoted(PAGE))
def test_a_message_that_is_explained_is_in_the_code(text: str) -> None:
    assert is_said(text)


def test_there_are_such_messages_and_others_would_be_found() -> None:
    assert len(quoted(PAGE)) > 20
    assert not is_said("no worker can be persuaded")
