"""Break promises of the behaviour contract, one at a time, and see that the tests of the row notice.

`make mutants` runs it: for each mutant below it copies the package, takes a promise out of the copy, and runs the tests
that the row names against that. A mutant that they let live is a row without a proof. It is a sample: promises that one
place in the code keeps, and that can be taken out without the rest falling down.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.docs.contract import ROWS, proofs
from tests.docs.markdown import ROOT

REST = "..."
"""In a body: what the function did before goes here."""

BOUND_S = 240.0
"""Seconds for the tests of one row: broken promises make them wait until their patience ends."""


@dataclass(frozen=True)
class Mutant:
    """A promise that is switched off.

    Attributes:
        row: How the row begins.
        file: In the package.
        name: The function or method, or the constant.
        body: What it does instead, or the constant is.
    """

    row: str
    file: str
    name: str
    body: str


MUTANTS = [
    Mutant(
        "a worker dies: segfault", "_core/worker_handlers.py", "WorkerHandlers.on_exited", "event.unstarted = ()\n..."
    ),
    Mutant("the task had `retries=n`", "_core/worker_handlers.py", "WorkerHandlers._lose", "task.retries = 0\n..."),
    Mutant("the kernel killed it for its memory", "_host/oom.py", "OomWatch.happened", "return False"),
    Mutant("its tasks have started processes", "backends/local/worker/descendants.py", "end_family", "return []"),
    Mutant("the machine or the container", "backends/local/worker/limits.py", "die_before_server", "pass"),
    Mutant("it stands still (SIGSTOP)", "_core/supervisor.py", "Supervisor.look_for_stopped", "pass"),
    Mutant("workers die before they are ready", "_core/policy.py", "restart_delay", "return 0.0"),
    Mutant("it has started programs", "backends/local/worker/descendants.py", "end_started_since", "pass"),
    Mutant("tasks draw random numbers", "backends/local/worker/randomness.py", "reseed", "pass"),
    Mutant("a task passes its timeout", "_core/supervisor.py", "Supervisor.interrupt", "pass"),
    Mutant("a client disconnects", "integrations/request_scope.py", "RequestScope._heard", "pass"),
    Mutant("an error becomes an HTTP answer", "integrations/problems.py", "detail", "hints = True\n..."),
    Mutant("many are refused at once", "integrations/problems.py", "retry_after", "jitter = 0.0\n..."),
    Mutant("the pool was drained", "integrations/health.py", "_why_to_restart", "return None"),
    Mutant("work comes at 2, 5 or 10 times", "_core/policy.py", "next_safety_factor", "return factor"),
    Mutant("a worker holds more than `max_worker_memory`", "backends/local/worker/limits.py", "limit_memory", "pass"),
    Mutant("a worker has run `max_tasks_per_worker`", "_core/policy.py", "recycle_lead", "return 0"),
    Mutant("a worker above `min_workers` is idle", "_core/supervisor.py", "Supervisor.watch_idle", "pass"),
    Mutant("`lifepool._core.queue.HEAD_START_S`", "_core/queue.py", "_rank", "return lane.head().submitted"),
]


def row_of(mutant: Mutant) -> list[str]:
    """Return the row whose promise it breaks."""
    (row,) = (row for row in ROWS if row[0].startswith(mutant.row))
    return row


def broken(source: str, mutant: Mutant) -> str:
    """Return a module's text without the promise."""
    scope: ast.AST = ast.parse(source)
    for part in mutant.name.split("."):
        scope = _child(scope, part)
    lines = source.splitlines()
    if isinstance(scope, ast.Assign):
        lines[scope.lineno - 1 : scope.end_lineno] = [f"{mutant.name} = {mutant.body}"]
        return "\n".join(lines) + "\n"
    assert isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef)
    first = scope.body[1] if ast.get_docstring(scope) and len(scope.body) > 1 else scope.body[0]
    indent = " " * first.col_offset
    instead = textwrap.indent(mutant.body, indent).splitlines()
    if mutant.body.endswith(REST):
        lines[first.lineno - 1 : first.lineno - 1] = instead[:-1]
    else:
        lines[first.lineno - 1 : scope.end_lineno] = instead
    return "\n".join(lines) + "\n"


def _child(scope: ast.AST, name: str) -> ast.AST:
    nodes: list[ast.AST] = getattr(scope, "body", [])
    for node in nodes:
        if getattr(node, "name", None) == name:
            return node
        if isinstance(node, ast.Assign) and any(isinstance(at, ast.Name) and at.id == name for at in node.targets):
            return node
    raise LookupError(name)


def survives(mutant: Mutant) -> bool:
    """Run the tests of the row against the broken package; return whether all passed."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        package = Path(folder) / "lifepool"
        shutil.copytree(ROOT / "src" / "lifepool", package, ignore=shutil.ignore_patterns("__pycache__"))
        path = package / mutant.file
        path.write_text(broken(path.read_text(), mutant))
        tests = [f"{file}::{name}" for file, name in proofs(row_of(mutant))]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
    if done.returncode not in (0, 1):  # no test said anything about it
        raise RuntimeError(done.stdout + done.stderr)
    print("\n".join(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))))
    return done.returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Try the mutants whose row or name has the given text in it, by default all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="?", default="")
    text = parser.parse_args(arguments).text
    chosen = [mutant for mutant in MUTANTS if text in f"{mutant.row} {mutant.file} {mutant.name}"]
    alive = []
    for mutant in chosen:
        print(f"{mutant.row}: {mutant.name} = {mutant.body!r}", flush=True)
        if survives(mutant):
            alive.append(mutant)
    print(f"{len(chosen) - len(alive)} of {len(chosen)} noticed")
    for mutant in alive:
        print(f"not noticed: {mutant}")
    return 1 if alive or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
