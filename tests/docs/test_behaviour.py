"""The behaviour contract is proved: each of its rows names tests that exist, and its figures are those of the code."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import re

import pytest

from lifepool.config import PoolConfig
from tests.docs.markdown import ROOT

PAGE = ROOT / "docs" / "reference" / "behaviour.md"
TEXT = PAGE.read_text()
UNITS = {"s": 1.0, "ms": 1e-3, "KiB": 2**10, "MiB": 2**20}
"""What a figure is multiplied by; units that count things are not here."""


def rows(text: str) -> list[list[str]]:
    """The cells of each row of each table, without headings."""
    tables = re.findall(r"(?m)^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for table in tables for line in table.splitlines()]


ROWS = rows(TEXT)
LIMITS = [row for row in ROWS if len(row) == 4]


def proofs(row: list[str]) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[-1])


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """The test functions of a file, found by reading it."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_"))


def in_code(name: str) -> float:
    """A setting's default, or a constant by its full name."""
    module, _, constant = name.rpartition(".")
    if module:
        return float(vars(importlib.import_module(module))[constant])
    return next(float(str(field.default)) for field in dataclasses.fields(PoolConfig) if field.name == name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:50])
def test_a_promise_is_proved_by_tests_that_exist(row: list[str]) -> None:
    assert proofs(row), "no proof"
    assert [f"{path}::{name}" for path, name in proofs(row) if name not in names_in(path)] == []


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0])
def test_a_figure_is_that_of_the_code(row: list[str]) -> None:
    number, unit = row[1].split(" ")
    assert float(number.replace(",", "")) * UNITS.get(unit, 1) == pytest.approx(in_code(row[0].strip("`")))


def test_every_line_of_the_tables_was_read() -> None:
    lines = re.findall(r"(?m)^\| (?!(?:when|limit) \|)", TEXT)
    assert len(ROWS) == len(lines) > 50


def test_every_time_limit_of_the_policy_is_on_the_page() -> None:
    source = (ROOT / "src/lifepool/_core/policy.py").read_text()
    names = set(re.findall(r"\b[A-Z_]+_S\b(?=[^\n]*=)", source.split("@dataclass")[0]))
    assert {name for name in names if f"policy.{name}`" not in TEXT} == INTERNAL


INTERNAL = {"PIPELINE_S", "STEAL_TASK_S"}
"""They choose between ways of the same speed; nobody can see them from outside."""


def test_a_row_without_a_proof_and_one_with_a_wrong_name_are_noticed() -> None:
    table = (
        "| when | then | proof |\n|---|---|---|\n| a | b |  |\n| c | d | `tests/docs/test_behaviour.py::test_not` |\n"
    )
    first, second = rows(table)
    assert proofs(first) == []
    ((path, name),) = proofs(second)
    assert name not in names_in(path)
