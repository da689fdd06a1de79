"""``python -m benchmarks check``: measure, compare, print a table, and fail if something got slower.

A case that seems to be slower is measured once more, and only what is slower again fails: another program's work is no
regression.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import environment
from benchmarks.regressions import pairs
from benchmarks.regressions.stored import FEWEST_RUNS, TOLERANCE, Run, Stored, bound
from benchmarks.report import number
from benchmarks.result import RESULTS
from benchmarks.sizing import available_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.regressions.pairs import Pair, PairedCase

ROUNDS = 11
BURSTS = 4
SECONDS = 0.12  # of a burst
QUICK_SECONDS = 0.02
NOTHING_STORED = 2  # the exit code when no case could be judged
HEAD = ("case", "loop", "against", "stored", "bound", "now", "wake-ups", "verdict")


@dataclass(frozen=True)
class Verdict:
    """What became of one case.

    Attributes:
        run: what was measured; of a case that was measured twice, the second time.
        before: the ratios of earlier runs with such wake-ups.
    """

    case: PairedCase
    run: Run
    before: tuple[float, ...]

    @property
    def bound(self) -> float | None:
        """Return what the ratio must not be below; None if too little is stored."""
        return bound(self.before)

    @property
    def slower(self) -> bool:
        """Tell whether the ratio is below the bound."""
        return self.bound is not None and self.run.ratio < self.bound

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        word = "SLOWER" if self.slower else "not judged" if self.bound is None else "ok"
        stored = f"{_range(self.before)}, {len(self.before)} runs" if self.before else "nothing"
        limit = "" if self.bound is None else f"{number(self.bound)}x"
        now = _range(self.run.ratios)
        return self.case.name, self.case.loop, self.case.peer, stored, limit, now, self.run.wake_ups, word


def _range(values: Sequence[float]) -> str:
    return f"{number(median(values))}x ({number(min(values))}-{number(max(values))})"


def run_cases(cases: Sequence[PairedCase], rounds: int, measure: Callable[[PairedCase], Pair]) -> dict[str, Run]:
    """Measure each case once a round, so that what happens to the machine for some seconds meets one round of each.

    Raises:
        RuntimeError: If a measurement failed.
    """
    measured: dict[str, list[Pair]] = defaultdict(list)
    for index in range(rounds):
        for case in cases:
            pair = measure(case)
            measured[case.key].append(pair)
            print(f"round {index + 1} of {rounds}: {case.key} {number(pair.ratio)}x", file=sys.stderr, flush=True)
    return {
        key: Run(tuple(pair.ratio for pair in pairs), median(pair.ping_pong for pair in pairs))
        for key, pairs in measured.items()
    }


def judged(cases: Sequence[PairedCase], runs: dict[str, Run], stored: Stored) -> list[Verdict]:
    """Compare what was measured with what is stored."""
    verdicts = []
    for case in cases:
        run = runs[case.key]
        verdicts.append(Verdict(case, run, stored.ratios(case.key, run.wake_ups)))
    return verdicts


def check(
    cases: Sequence[PairedCase], rounds: int, measure: Callable[[PairedCase], Pair], stored: Stored
) -> list[Verdict]:
    """Measure and judge; measure again what seems to be slower, and judge by that."""
    verdicts = judged(cases, run_cases(cases, rounds, measure), stored)
    suspects = [verdict.case for verdict in verdicts if verdict.slower]
    if not suspects:
        return verdicts
    print(f"slower, so measured once more: {', '.join(case.key for case in suspects)}", file=sys.stderr, flush=True)
    again = judged(suspects, run_cases(suspects, rounds, measure), stored)
    second = {verdict.case.key: verdict for verdict in again}
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
    parser.add_argument("--store", action="store_true", help="add this run to the stored ones, and judge nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each case (default {ROUNDS})")
    parser.add_argument("--case", action="append", help="only this one, such as 'no-op, asyncio' (may be repeated)")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="in each pool")
    parser.add_argument("--ratios", type=Path, default=RESULTS / "ratios.json", help="the file of stored ratios")
    parser.add_argument(
        "--slowed", type=float, default=1.0, help="multiply lifepool's times by this: would it be found?"
    )
    parser.add_argument("--quick", action="store_true", help="too briefly to measure anything: does it work?")
    options = parser.parse_args(arguments)
    known = {case.key: case for case in pairs.CASES}
    options.cases = [known[key] for key in options.case or known if key in known]
    if unknown := set(options.case or ()) - set(known):
        parser.error(f"there is no case {unknown.pop()!r}; choose from {'; '.join(known)}")
    if options.store and options.slowed > 1:
        parser.error("a slowed run must not be stored")
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure and judge, or store.

    Returns:
        0, or 1 if a case got slower, or 2 if nothing could be judged, for lack of stored runs.
    """
    options = parse(arguments)
    request = {
        "workers": options.workers,
        "seconds": QUICK_SECONDS if options.quick else SECONDS,
        "bursts": BURSTS,
        "slowed": options.slowed,
    }
    rounds = 1 if options.quick else options.rounds
    stored = Stored(options.ratios)
    measure = partial(pairs.measure, request=request)
    if options.store:
        runs = run_cases(options.cases, rounds, measure)
        verdicts = judged(options.cases, runs, stored)
        about = environment.describe()
        for key, run in runs.items():
            stored.add(key, run, about)
        stored.write()
        print(table(verdicts))
        print(f"stored in {options.ratios}")
        return 0
    verdicts = check(options.cases, rounds, measure, stored)
    print(table(verdicts))
    return _conclusion(verdicts)


def _conclusion(verdicts: Sequence[Verdict]) -> int:
    slower = [verdict.case.key for verdict in verdicts if verdict.slower]
    if slower:
        print(f"Slower by more than {TOLERANCE:.0%}, and more than noise, twice: {'; '.join(slower)}.")
        print("Meant to be so? Add runs at different times with `python -m benchmarks check --store`.")
        return 1
    if all(verdict.bound is None for verdict in verdicts):
        print(
            f"Nothing was judged: fewer than {FEWEST_RUNS} runs with such wake-ups are stored. Add some, at different "
            "times, with `python -m benchmarks check --store`."
        )
        return NOTHING_STORED
    return 0
