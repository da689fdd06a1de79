"""CPython's own tests of the standard process pool, run against ours. The exceptions are in the docs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.futures.helpers import ROOT

HERE = Path(__file__).parent / "cpython"
#: Seconds for all of them on a busy machine; half of it is what the tests themselves sleep.
PATIENCE_S = 300

#: One for each kind of promise: what is run where nobody has asked for all.
SOME = {
    "test_submit_keyword", "test_map_exception", "test_initializer", "test_max_workers_negative", "test_traceback",
    "test_crash_during_func_exec_on_worker", "test_error_at_task_pickle", "test_killed_child",
}  # fmt: skip


def exceptions() -> set[str]:
    """Return the tests that do not pass, as the docs list them."""
    text = (ROOT / "docs/reference/drop-in.md").read_text()
    listed = text.partition("<!-- exceptions -->")[2].partition("<!-- exceptions:end -->")[0]
    return set(re.findall(r"^\| `(test_\w+)` \| \S", listed, re.MULTILINE))


def interpreter() -> str:
    """Return a Python 3.13 that has its own tests; many are packaged without."""
    found = [sys.executable, shutil.which("python3.13"), *Path.home().glob(".pyenv/versions/3.13.*/bin/python3.13")]
    for each in filter(None, found):
        probe = "import sys, test.test_concurrent_futures.util; assert sys.version_info[:2] == (3, 13)"
        if subprocess.run([str(each), "-c", probe], capture_output=True).returncode == 0:
            return str(each)
    pytest.skip("there is no Python 3.13 here that has the package test")


def run_them(kind: str, names: set[str]) -> dict[str, str]:
    """Run the tests of one start method; return what became of each."""
    done = subprocess.run(
        [interpreter(), str(HERE / "run.py"), "--kind", kind, "--only", *sorted(names)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(HERE)])},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    outcomes = dict(re.findall(r"^(test_\w+) (passed|failed|skipped)$", done.stdout, re.MULTILINE))
    assert outcomes, done.stderr
    return outcomes


def test_those_that_stand_for_the_others_pass() -> None:
    outcomes = run_them("Forkserver", SOME)
    assert outcomes.keys() == SOME
    assert {name for name, outcome in outcomes.items() if outcome == "failed"} == SOME & exceptions()


@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.skipif("ALL_CPYTHON_TESTS" not in os.environ, reason="takes two minutes: set ALL_CPYTHON_TESTS=1")
@pytest.mark.parametrize("kind", ["Forkserver", "Spawn"])
def test_all_pass_but_those_in_the_docs(kind: str) -> None:
    outcomes = run_them(kind, set())
    assert len(outcomes) > 60
    assert {name for name, outcome in outcomes.items() if outcome == "failed"} == exceptions()
