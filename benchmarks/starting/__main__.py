"""What does the start of an executor cost a script?

``python -m benchmarks.starting`` takes about a minute and a half. It runs short scripts, the contenders in turn, round
after round, prints a table, and writes it with its JSON to ``results/starting.md`` and ``.json`` (``--name``).

Bytecode is compiled before the first round, as it is in an installed package: else a contender whose source lies beside
the benchmark, and is compiled at each start, is measured at twice its cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent.parent / "results"
SCRIPT = Path(__file__).with_name("script.py")
#: Seconds that one script may take.
LIMIT_S = 120.0

CONTENDERS = ("lifepool", "forkserver", "spawn", "loky")


@dataclass(frozen=True)
class Case:
    """One script.

    Attributes:
        title: For the table.
        executors: How many it makes, one after another.
        modules: What it imports first.
        figure: ``"first"``: the time of its first result; ``"all"``: until its last executor is shut down.
    """

    title: str
    executors: int
    modules: tuple[str, ...]
    figure: str


CASES = {
    "empty": Case("first result of a script that imports nothing", 1, (), "first"),
    "numpy": Case("first result of a script that imports numpy", 1, ("numpy",), "first"),
    "pandas": Case(
        "first result of a script that imports pandas and scipy.stats", 1, ("pandas", "scipy.stats"), "first"
    ),
    "forty": Case("forty executors, one after another", 40, (), "all"),
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starting", description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=tuple(CASES), help="default: all")
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--executors", type=int, help="in the place of forty")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--name", default="starting")
    return parser.parse_args(arguments)


def run(case: Case, contender: str, executors: int, environ: dict[str, str]) -> float:
    """Run one script; return its figure in seconds."""
    command = [sys.executable, str(SCRIPT), contender, str(executors), *case.modules]
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures[case.figure]


def measure(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each round, by case and contender."""
    samples: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as bytecode:
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ["PYTHONPYCACHEPREFIX"] = bytecode
        for name in options.case or CASES:
            case, found = CASES[name], samples.setdefault(name, {})
            executors = options.executors if options.executors and case.executors > 1 else case.executors
            for number in range(options.rounds + 1):
                for contender in options.contender or CONTENDERS:
                    seconds = run(case, contender, 1 if number == 0 else executors, environ)
                    if number > 0:  # the first one compiles
                        found.setdefault(contender, []).append(seconds)
    return samples


def table(samples: dict[str, dict[str, list[float]]]) -> str:
    """Return medians and ranges as Markdown."""
    contenders = list(next(iter(samples.values())))
    lines = [f"| milliseconds: median (range) | {' | '.join(contenders)} |", "|---|" + "---|" * len(contenders)]
    for name, found in samples.items():
        cells = [
            f"{statistics.median(times) * 1e3:.0f} ({min(times) * 1e3:.0f}-{max(times) * 1e3:.0f})"
            for times in found.values()
        ]
        lines.append(f"| {CASES[name].title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = parse(arguments)
    result: dict[str, Any] = {"environment": environment.describe(), "seconds": measure(options)}
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / f"{options.name}.json"
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = f"# The start of an executor\n\n{table(result['seconds'])}"
    target.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
