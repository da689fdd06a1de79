"""The goals that lifepool has set itself, beside what was measured: ``python -m benchmarks goals``.

It reads ``results/bench.json`` (``--name``), prints the table, and writes it to ``results/bench-goals.md`` and
``.json``.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from benchmarks.report import number, spread_text
from benchmarks.result import RESULTS, Result
from lifepool.cli.bench.contenders import LIFEPOOL, LIMIT, STANDARD
from lifepool.cli.summary import Spread

ASYNCIO, UVLOOP = "asyncio", "uvloop"


@dataclass(frozen=True)
class Goal:
    """A figure to reach.

    Attributes:
        words: what is asked for.
        measured: finds the figure in a result; None if it was not measured.
        bound: what the median must be at least, or at most.
        unit: of both.
    """

    words: str
    measured: Callable[[Result], Spread | None]
    direction: Literal["at least", "at most"]
    bound: float
    unit: str

    def verdict(self, spread: Spread | None) -> str:
        """Return "met", "not met" or "not measured"."""
        if spread is None:
            return "not measured"
        reached = spread.median >= self.bound if self.direction == "at least" else spread.median <= self.bound
        return "met" if reached else "not met"


def times_better(words: str, case: str, loop: str, bound: float) -> Goal:
    """Return the goal of being so many times better than the standard pool."""
    title = f"{words} ({loop}): times better than the standard pool"
    return Goal(title, lambda result: result.advantage(case, loop, [STANDARD]), "at least", bound, "x")


def better_than_best(words: str, case: str, loop: str, bound: float) -> Goal:
    """Return the goal of being so many times better than the best peer of each round."""
    title = f"{words} ({loop}): times better than the best peer"
    return Goal(title, lambda result: result.advantage(case, loop, result.peers(case, loop)), "at least", bound, "x")


def near_limit(words: str, case: str, bound: float) -> Goal:
    """Return the goal of taking at most so many times as long as the limit."""

    def measured(result: Result) -> Spread | None:
        advantage = result.advantage(case, ASYNCIO, [LIMIT])
        if advantage is None:
            return None
        return Spread(1 / advantage.median, 1 / advantage.high, 1 / advantage.low, advantage.rounds)

    return Goal(f"{words} ({ASYNCIO}): times as long as the memcpy limit", measured, "at most", bound, "x")


def absolute(
    words: str, case: str, direction: Literal["at least", "at most"], bound: float, unit: str, who: str = LIFEPOOL
) -> Goal:
    """Return the goal of a figure of lifepool alone."""
    return Goal(words, lambda result: result.spread(case, ASYNCIO, who), direction, bound, unit)


GOALS = (
    times_better("no-op, 1 in flight", "latency", ASYNCIO, 4),
    times_better("no-op, 1 in flight", "latency", UVLOOP, 5),
    better_than_best("no-op, 1 in flight", "latency", ASYNCIO, 1),
    better_than_best("no-op, 1 in flight", "latency", UVLOOP, 1),
    times_better("no-ops, 64 in flight", "throughput-64", ASYNCIO, 6),
    times_better("no-ops, 64 in flight", "throughput-64", UVLOOP, 9),
    times_better("1 MiB echoed", "echo-1MiB", ASYNCIO, 12),
    near_limit("1 MiB echoed", "echo-1MiB", 2.5),
    times_better("16 MiB echoed", "echo-16MiB", ASYNCIO, 8),
    near_limit("16 MiB echoed", "echo-16MiB", 2.5),
    better_than_best("map of 10⁶ tiny items", "map-1e6", ASYNCIO, 1.4),
    absolute("efficiency with tasks of 1 ms", "efficiency-1ms", "at least", 93, "%"),
    absolute("all workers there again after a kill", "restart", "at most", 20, "ms"),
    absolute("importing lifepool after FastAPI", "import", "at most", 30, "ms", "lifepool-after-fastapi"),
    absolute("lag of the loop, p99, workers saturated", "loop-lag", "at most", 5, "ms"),
    absolute("lag of the loop, p99, saturated with no-ops", "loop-lag-noop", "at most", 5, "ms"),
)


@dataclass(frozen=True)
class Line:
    """One goal and what came of it, as it stands in the report."""

    goal: str
    bound: str
    measured: Spread | None
    unit: str
    verdict: str

    @property
    def cells(self) -> list[str]:
        """Return the line of a table."""
        measured = "" if self.measured is None else spread_text(self.measured, _spaced(self.unit))
        return [self.goal, self.bound, measured, self.verdict]


def lines_of(result: Result) -> list[Line]:
    """Return a line for each goal."""
    lines = []
    for goal in GOALS:
        spread = goal.measured(result)
        bound = f"{'≥' if goal.direction == 'at least' else '≤'} {number(goal.bound)}{_spaced(goal.unit)}"
        lines.append(Line(goal.words, bound, spread, goal.unit, goal.verdict(spread)))
    return lines


def _spaced(unit: str) -> str:
    return unit if unit == "x" else f" {unit}"


def markdown(lines: Sequence[Line]) -> str:
    """Return the table of goals."""
    rows = [["goal", "wanted", "measured", ""], ["---", "---:", "---:", "---"], *(line.cells for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Print and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks goals", description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="bench", help="of the result")
    parser.add_argument("--output", type=Path, default=RESULTS, help="its folder")
    options = parser.parse_args(arguments)
    lines = lines_of(Result.load(options.name, options.output))
    table = markdown(lines)
    (options.output / f"{options.name}-goals.md").write_text(f"# Goals\n\n{table}", encoding="utf-8")
    data = json.dumps([asdict(line) for line in lines], indent=1, ensure_ascii=False)
    (options.output / f"{options.name}-goals.json").write_text(data + "\n", encoding="utf-8")
    print(table)
    return 0
