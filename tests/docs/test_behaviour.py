"""The behaviour contract is proved: the tests that its rows name have passed, and its figures are those of the code."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import re
from typing import TYPE_CHECKING

import pytest

from lifepool.config import PoolConfig
from tests.docs.contract import ROWS, TEXT, proofs, rows
from tests.docs.markdown import ROOT

if TYPE_CHECKING:
    from pathlib import Path

UNITS = {"s": 1.0, "ms": 1e-3, "KiB": 2**10, "MiB": 2**20}
"""What a figure is multiplied by; units that count things are not here."""

LIMITS = [row for row in ROWS if len(row) == 4]


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


# -- the verdict at the end of a session ----------------------------------------------------------------------------

INNER = """
    import pytest
    def test_passes(): pass
    @pytest.mark.parametrize("number", [1, OTHER])
    def test_passes_at_times(number): assert number == 1
    @pytest.mark.skipif(True, reason="not here")
    def test_is_skipped(): pass
    @pytest.mark.parametrize("backend", ["local", "threads-2"])
    def test_is_skipped_for_others(backend): backend == "local" or pytest.skip("can not")
    @pytest.mark.parametrize("backend", ["local", "threads-2"])
    def test_is_skipped_for_local(backend): backend == "local" and pytest.skip("can not")
    @pytest.mark.xfail(strict=True)
    def test_is_expected_to_fail(): assert False
"""
JUDGE = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.docs import verdict
    verdict.ROOT = Path({folder!r})
    verdict.MAY_SKIP = False
    proof = "`tests/test_inner.py::test_{{}}`".format
    verdict.ROWS = [[name, "then", " ".join(map(proof, tests.split()))] for name, tests in {rows!r}.items()]
    pytest_plugins = ["tests.docs.verdict"]
"""


def judged(pytester: pytest.Pytester, rows: dict[str, str], *options: str, other: int = 1) -> tuple[int, str]:
    """The exit code and the summary of a session with these rows."""
    pytester.makeini("[pytest]\n")
    folder: Path = pytester.path
    pytester.makeconftest(JUDGE.format(root=str(ROOT), folder=str(folder), rows=rows))
    (folder / "tests").mkdir()
    pytester.makepyfile(**{"tests/test_inner": INNER.replace("OTHER", str(other))})
    pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take a second to load
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=40)
    return int(done.ret), done.stdout.str()


@pytest.mark.parametrize("distributed", [(), ("-p", "xdist", "-n", "1")])
def test_what_did_not_pass_proves_nothing(pytester: pytest.Pytester, distributed: tuple[str, ...]) -> None:
    rows = {
        "good": "passes",
        "good where it counts": "is_skipped_for_others",
        "half": "passes passes_at_times",
        "not where it counts": "is_skipped_for_local",
        "left out": "is_skipped",
        "known to be wrong": "is_expected_to_fail",
        "not there": "is_no_more",
    }
    code, output = judged(pytester, rows, "tests", *distributed, other=2)
    assert code == 1
    for row, test in {
        "half": "passes_at_times failed",
        "not where it counts": "is_skipped_for_local was skipped",
        "left out": "is_skipped was skipped",
        "known to be wrong": "is_expected_to_fail is expected to fail",
        "not there": "is_no_more did not run",
    }.items():
        assert f"\n{row}\n    tests/test_inner.py::test_{test}\n" in output
    assert "2 of 7 rows proved" in output


def test_a_row_that_is_not_proved_fails_a_session_in_which_all_passed(pytester: pytest.Pytester) -> None:
    code, output = judged(pytester, {"left out": "is_skipped"}, "tests")
    assert "5 passed, 3 skipped, 1 xfailed" in output
    assert code == 1
    assert "is_skipped was skipped" in output


@pytest.mark.parametrize("choice", [["tests/test_inner.py::test_passes"], ["tests", "-k", "test_passes and not times"]])
def test_rows_that_a_session_was_not_to_prove_are_not_judged(pytester: pytest.Pytester, choice: list[str]) -> None:
    code, output = judged(pytester, {"good": "passes", "not run": "is_skipped"}, *choice)
    assert code == 0
    assert "not proved" not in output
    assert "1 of 2 rows proved" in output
