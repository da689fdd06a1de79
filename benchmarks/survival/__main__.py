"""``python -m benchmarks.survival``: every fault against every pool; a table for people and one for programs."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks import environment
from benchmarks.survival.cell import VERDICT
from benchmarks.survival.clusters import CLUSTERS
from benchmarks.survival.experiments import EXPERIMENTS, Verdict
from lifepool.cli.bench.contenders import POOLS

RESULTS = Path(__file__).parents[1] / "results"
MARK = "SURVIVAL_CELL"
"""Environment variable by which all processes of a cell are known, whatever became of their parents."""
CELL_BOUND_S = 60.0  # a cluster takes seconds to come up
ALL = (*POOLS, *CLUSTERS)
ORPHAN_GRACE_S = 2.0


def main() -> int:
    """Run the cells that were asked for and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survival", description=__doc__)
    parser.add_argument("--contender", action="append", choices=ALL, help="only these (may be repeated)")
    parser.add_argument("--experiment", action="append", choices=list(EXPERIMENTS), help="only these")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument("--name", default="survival", help="name of the result files")
    options = parser.parse_args()
    contenders = options.contender or POOLS
    table: dict[str, dict[str, Verdict]] = {}
    for experiment in options.experiment or EXPERIMENTS:
        table[experiment] = {}
        for contender in contenders:
            verdict = table[experiment][contender] = run_cell(contender, experiment)
            print(f"{experiment} {contender}: {_word(verdict)}, {verdict.detail}", file=sys.stderr, flush=True)
    write(options.output, options.name, merged(options.output / f"{options.name}.json", table))
    return 0


def merged(earlier: Path, table: dict[str, dict[str, Verdict]]) -> dict[str, dict[str, Verdict]]:
    """Merge the cells of an earlier run, so that a few can be run again, with those of this one."""
    cells = json.loads(earlier.read_text(encoding="utf-8"))["cells"] if earlier.exists() else {}
    known = {row: {name: Verdict(**cell) for name, cell in cells.get(row, {}).items()} for row in EXPERIMENTS}
    for row, verdicts in table.items():
        known[row].update(verdicts)
    ordered = {row: {name: known[row][name] for name in ALL if name in known[row]} for row in known}
    return {row: verdicts for row, verdicts in ordered.items() if verdicts}


def run_cell(contender: str, experiment: str) -> Verdict:
    """Run one experiment with one pool, within a bound, and leave nothing of it."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="survival-") as folder:
        command = [sys.executable, "-m", "benchmarks.survival.cell", contender, experiment, folder]
        cell = subprocess.Popen(
            command,
            env={**os.environ, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            if experiment == "server-killed":
                return kill_server(cell, Path(folder, "kill me"), mark)
            cell.wait(CELL_BOUND_S)
            return Verdict(**json.loads(Path(folder, VERDICT).read_text()))
        except (subprocess.TimeoutExpired, TimeoutError):
            return Verdict(False, f"no verdict after {CELL_BOUND_S:.0f} s")
        except FileNotFoundError:
            return Verdict(False, f"the server ended with code {cell.returncode}")
        finally:
            end(cell, mark)


def kill_server(cell: "subprocess.Popen[bytes]", ready: Path, mark: str) -> Verdict:
    """Kill the server with busy workers and see who is left."""
    deadline = time.monotonic() + CELL_BOUND_S
    while not ready.exists():
        if time.monotonic() > deadline or cell.poll() is not None:
            raise TimeoutError
        time.sleep(0.01)
    cell.kill()
    cell.wait()
    left, start = list(family(cell, mark)), time.monotonic()
    while left and time.monotonic() < start + ORPHAN_GRACE_S:
        time.sleep(0.02)
        left = list(family(cell, mark))
    took = time.monotonic() - start
    if left:
        return Verdict(False, f"{len(left)} processes still run {ORPHAN_GRACE_S:.0f} s later")
    return Verdict(True, f"all gone after {took * 1e3:.0f} ms")


def family(cell: "subprocess.Popen[bytes]", mark: str) -> Iterator[psutil.Process]:
    """Yield the living processes of a cell: of its session, or with its mark.

    Either alone is not enough: deadpool's workers overwrite their environment with a title, loky's leave the session.
    """
    for process in psutil.process_iter():
        try:
            is_of_it = os.getsid(process.pid) == cell.pid or process.environ().get(MARK) == mark
            if is_of_it and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.Error, OSError):
            continue


def end(cell: "subprocess.Popen[bytes]", mark: str) -> None:
    """Kill what is left of a cell, and remove what loky then can't remove any more."""
    cell.kill()
    for process in list(family(cell, mark)):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    cell.wait()
    for semaphore in Path("/dev/shm").glob(f"sem.loky-{cell.pid}-*"):
        semaphore.unlink(missing_ok=True)


def write(folder: Path, name: str, table: dict[str, dict[str, Verdict]]) -> None:
    """Write the results as ``.json`` and as ``.md``."""
    about = environment.describe()
    folder.mkdir(parents=True, exist_ok=True)
    cells = {row: {name: vars(verdict) for name, verdict in verdicts.items()} for row, verdicts in table.items()}
    titles = {row: EXPERIMENTS[row][0] for row in table}
    result = {"environment": about, "experiments": titles, "cells": cells}
    text = json.dumps(result, indent=1, ensure_ascii=False, default=str)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(markdown(about, table), encoding="utf-8")
    print(markdown(about, table))


def markdown(about: dict[str, object], table: dict[str, dict[str, Verdict]]) -> str:
    """Write the table, then what was seen in each cell."""
    names = [name for name in ALL if any(name in verdicts for verdicts in table.values())]
    packages = about["packages"]
    assert isinstance(packages, dict)
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    lines = ["# Who survives what", "", f"{about['date']}, {about['python']}, {versions}.", ""]
    lines += [f"| | {' | '.join(names)} |", f"|---{'|---' * len(names)}|"]
    for row, verdicts in table.items():
        words = (_word(verdicts[name]) if name in verdicts else "" for name in names)
        lines.append(f"| {EXPERIMENTS[row][0]} | {' | '.join(words)} |")
    survived = {name: sum(name in v and v[name].survived for v in table.values()) for name in names}
    lines.append(f"| **of {len(table)}** | {' | '.join(f'**{count}**' for count in survived.values())} |")
    lines += ["", "## What was seen", ""]
    for row, verdicts in table.items():
        lines += [f"- {EXPERIMENTS[row][0]}", *(f"  - {name}: {v.detail}" for name, v in verdicts.items())]
    return "\n".join([*lines, ""])


def _word(verdict: Verdict) -> str:
    return "yes" if verdict.survived else "no"


if __name__ == "__main__":
    sys.exit(main())
