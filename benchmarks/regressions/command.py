"""``python -m benchmarks check``: measure, compare, print a table, and fail if something got slower.

A case that seems to be slower is measured once more, and only what is slower again fails: another program's work is no
regression.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import environment
from benchmarks.regressions import pairs
from benchmarks.regressions.baseline import BASELINE, BaselineError, unpack
from benchmarks.regressions.calls import CASES
from benchmarks.regressions.pairs import Request
from benchmarks.report import number
from benchmarks.sizing import available_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.regressions.calls import Case

TOLERANCE = 0.15  # by so much longer a call may take
ROUNDS = 11
BURSTS = 4
SECONDS = 0.12  # of a burst
QUICK_SECONDS = 0.02
NO_BASELINE = 2  # the exit code when there is nothing to compare with
HEAD = ("case", "loop", "times as fast", "verdict")


@dataclass(frozen=True)
class Verdict:
    """What became of one case.

    Attributes:
        ratios: How many times as fast it was as the earlier commit, in each round; of a case that was measured twice,
            the second time.
    """

    case: Case
    ratios: tuple[float, ...]

    @property
    def slower(self) -> bool:
        """Tell whether it takes longer than it may."""
        return median(self.ratios) < 1 / (1 + TOLERANCE)

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        low, middle, high = map(number, (min(self.ratios), median(self.ratios), max(self.ratios)))
        return self.case.name, self.case.loop, f"{middle}x ({low}-{high})", "SLOWER" if self.slower else "ok"


def run_cases(cases: Sequence[Case], rounds: int, measure: Callable[[Case], float]) -> list[Verdict]:
    """Measure each case once a round, so that what happens to the machine for some seconds meets one round of each.

    Raises:
        RuntimeError: If a measurement failed.
    """
    measured: dict[str, list[float]] = defaultdict(list)
    for index in range(rounds):
        for case in cases:
            ratio = measure(case)
            measured[case.key].append(ratio)
            print(f"round {index + 1} of {rounds}: {case.key} {number(ratio)}x", file=sys.stderr, flush=True)
    return [Verdict(case, tuple(measured[case.key])) for case in cases]


def check(cases: Sequence[Case], rounds: int, measure: Callable[[Case], float]) -> list[Verdict]:
    """Measure and judge; measure again what seems to be slower, and judge by that."""
    verdicts = run_cases(cases, rounds, measure)
    suspects = [verdict.case for verdict in verdicts if verdict.slower]
    if not suspects:
        return verdicts
    print(f"slower, so measured once more: {'; '.join(case.key for case in suspects)}", file=sys.stderr, flush=True)
    second = {verdict.case.key: verdict for verdict in run_cases(suspects, rounds, measure)}
    return [second.get(verdict.case.key, verdict) for verdict in verdicts]


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the table of a run."""
    rows = [HEAD, *(verdict.cells() for verdict in verdicts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks check", description=__doc__.partition("\n")[0])
    parser.add_argument("--against", default=BASELINE, metavar="COMMIT", help=f"the earlier one (default {BASELINE})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each case (default {ROUNDS})")
    parser.add_argument("--case", action="append", help="only this one, such as 'no-op, asyncio' (may be repeated)")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="in each pool")
    parser.add_argument("--slowed", type=float, default=1.0, help="multiply today's times by this: would it be found?")
    parser.add_argument("--quick", action="store_true", help="too briefly to measure anything: does it work?")
    options = parser.parse_args(arguments)
    known = {case.key: case for case in CASES}
    if unknown := set(options.case or ()) - set(known):
        parser.error(f"there is no case {unknown.pop()!r}; choose from {'; '.join(known)}")
    options.cases = [known[key] for key in options.case or known]
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure and judge.

    Returns:
        0, or 1 if a case got slower, or 2 if there are no sources to compare with.
    """
    options = parse(arguments)
    if (busy := environment.busy_percent()) > environment.MOST_BUSY and not options.quick:
        print(f"WARNING: the CPUs are {busy:.0f} % busy: something else runs, and the ratios will show it")
    with tempfile.TemporaryDirectory() as folder:
        try:
            before = unpack(options.against, Path(folder))
        except BaselineError as error:
            print(error, file=sys.stderr)
            return NO_BASELINE
        request = Request(
            now=environment.ROOT / "src",
            before=before,
            workers=options.workers,
            seconds=QUICK_SECONDS if options.quick else SECONDS,
            bursts=BURSTS,
            slowed=options.slowed,
        )
        verdicts = check(options.cases, 1 if options.quick else options.rounds, partial(pairs.measure, request=request))
    print(f"lifepool as it is, and as it was at {options.against}:")
    print(table(verdicts))
    slower = [verdict.case.key for verdict in verdicts if verdict.slower]
    if slower:
        print(f"Slower by more than {TOLERANCE:.0%}, twice: {'; '.join(slower)}.")
        print("For a good reason? Set BASELINE in benchmarks/regressions/baseline.py to the commit that did it.")
    return 1 if slower else 0
