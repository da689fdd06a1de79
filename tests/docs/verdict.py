"""A plugin of pytest: at the end of a session, judge the behaviour contract by what has run.

A row is proved if every test that it names has passed, with all of its parameters. It is not if one failed, was
skipped (on Linux, where nothing of the contract is left out), was expected to fail, or did not run although the session
was to run its file. For a backend that can do less than `local` a test may be skipped. Rows whose tests the session was
not to run are not judged. A row that is not proved fails the session, and the summary names it.

With pytest-xdist the process that collects the reports judges; those that run tests do not.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.docs.contract import ROWS, proofs
from tests.docs.markdown import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAY_SKIP = sys.platform != "linux"
LESSER_BACKENDS = {"inline", "executor", "threads", "loopback"}
"""Parameters for which a test may be skipped: the page is about `local`, and says where to read what others can."""

ELSEWHERE = (ROOT / "tests" / "cluster",)
"""Tests that run in an environment of their own; a session is to run them if it names their folder."""

CHOOSERS = ("keyword", "markexpr", "deselect", "lf", "stepwise", "maxfail", "collectonly", "ignore")
"""The options with which a session runs, or may run, fewer tests than its files have."""


class Verdict:
    """What became of the tests that rows name.

    Args:
        rows: The rows of the contract, of which the last cell names tests.
        folders: The files and folders that the session runs whole.
    """

    def __init__(self, rows: Sequence[Sequence[str]], folders: Sequence[Path]) -> None:
        self._rows = [(row[0], [f"{path}::{name}" for path, name in proofs(row)]) for row in rows]
        self._named = {test for _, tests in self._rows for test in tests}
        self._folders = folders
        self._passed: set[str] = set()
        self._faults: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down how one phase of a test ended."""
        test, _, parameters = report.nodeid.partition("[")
        if test not in self._named:
            return
        if hasattr(report, "wasxfail"):
            self._faults[test] = "is expected to fail"
        elif report.failed:
            self._faults[test] = "failed"
        elif report.skipped:
            if not (MAY_SKIP or LESSER_BACKENDS.intersection(parameters.rstrip("]").split("-"))):
                self._faults[test] = "was skipped"
        elif report.when == "call":
            self._passed.add(test)

    def fault(self, test: str) -> str:
        """Return what is wrong with a test as a proof; empty if nothing is, or if it was not to run."""
        if test in self._faults:
            return self._faults[test]
        path = ROOT / test.split("::")[0]
        apart = [folder for folder in ELSEWHERE if path.is_relative_to(folder)]
        expected = any(
            path.is_relative_to(folder) and all(folder.is_relative_to(other) for other in apart)
            for folder in self._folders
        )
        return "did not run" if expected and test not in self._passed else ""

    def not_proved(self) -> list[tuple[str, list[str]]]:
        """Return the rows that are not proved, each with the faults of its tests."""
        found = [
            (row, [f"{test} {self.fault(test)}" for test in tests if self.fault(test)]) for row, tests in self._rows
        ]
        return [(row, faults) for row, faults in found if faults]

    def proved(self) -> int:
        """Return how many rows this session has proved."""
        return sum(all(test in self._passed and not self.fault(test) for test in tests) for _, tests in self._rows)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a session that was to prove a row and did not."""
        if exitstatus == pytest.ExitCode.OK and self.not_proved():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """Name the rows that are not proved, and say how many are."""
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return  # it was broken off
        if wrong := self.not_proved():
            terminalreporter.section("not proved: rows of docs/reference/behaviour.md", red=True)
        for row, faults in wrong:
            terminalreporter.write_line("\n    ".join([row, *faults]))
        if proved := self.proved():
            terminalreporter.write_line(f"docs/reference/behaviour.md: {proved} of {len(self._rows)} rows proved")


def whole_folders(config: pytest.Config) -> list[Path]:
    """Return the files and folders of which the session runs every test."""
    if any(config.getoption(option, default=None) for option in CHOOSERS):
        return []
    return [config.invocation_params.dir / argument for argument in config.args if "::" not in argument]


def pytest_configure(config: pytest.Config) -> None:
    """Watch the session, unless it is one of those that run tests for another."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Verdict(ROWS, whole_folders(config)), "behaviour-verdict")
