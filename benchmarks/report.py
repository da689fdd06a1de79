"""Tables of a run: one for each case and event loop, as plain text or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from benchmarks.cases.base import Metric
from benchmarks.harness import Plan, Sample
from lifepool.cli.bench.contenders import LIFEPOOL
from lifepool.cli.summary import Spread, ratios_per_round


@dataclass(frozen=True)
class Row:
    """One contender of a table.

    Attributes:
        metrics: spread over the rounds by metric; empty when every measurement failed.
        advantage: how many times better lifepool was, by the leading metric.
        failures: measurements without a result.
        left_over: processes that it left behind, over all measurements.
    """

    contender: str
    metrics: dict[str, Spread]
    advantage: Spread | None
    failures: int
    left_over: int


def rows_of(plan: Plan, samples: Sequence[Sample]) -> list[Row]:
    """Return a row for each contender of a plan, in the plan's order."""
    case, loop = plan.case, plan.loop
    own = [sample for sample in samples if (sample.case, sample.loop) == (case.name, loop)]
    return [_row(contender, plan, own) for contender in plan.contenders]


def _row(contender: str, plan: Plan, samples: Sequence[Sample]) -> Row:
    own = [sample for sample in samples if sample.contender == contender]
    good = [sample for sample in own if not sample.error]
    metrics = {
        metric.name: Spread.of([sample.metrics[metric.name] for sample in good]) for metric in plan.case.metrics if good
    }
    return Row(
        contender,
        metrics,
        _advantage(contender, plan.case.metrics[0], samples),
        len(own) - len(good),
        sum(sample.left_over for sample in own),
    )


def _advantage(contender: str, metric: Metric, samples: Sequence[Sample]) -> Spread | None:
    def by_round(name: str) -> dict[int, float]:
        chosen = [sample for sample in samples if sample.contender == name and not sample.error]
        return {sample.round: sample.metrics[metric.name] for sample in chosen}

    if contender == LIFEPOOL:
        return None
    lower = metric.better == "lower"
    ratios = ratios_per_round(by_round(LIFEPOOL), by_round(contender), lower_is_better=lower)
    return Spread.of(ratios) if ratios else None


def number(value: float) -> str:
    """Return three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread_text(spread: Spread, unit: str = "") -> str:
    """Return the median, and the range over the rounds if there were several."""
    text = f"{number(spread.median)}{unit}"
    if spread.rounds == 1:
        return text
    return f"{text} ({number(spread.low)}-{number(spread.high)})"


def cells(plan: Plan, rows: Sequence[Row]) -> list[list[str]]:
    """Return the header and a line for each row; only the leading metric shows its range."""
    leading, *others = plan.case.metrics
    header = ["", f"{leading.name} {leading.unit}"]
    header += [f"{metric.name} {metric.unit}" for metric in others]
    lines = [[*header, f"lifepool better ({leading.name})"]]
    for row in rows:
        line = [row.contender + _remark(row)]
        if row.metrics:
            line.append(spread_text(row.metrics[leading.name]))
            line += [number(row.metrics[metric.name].median) for metric in others]
            line.append(spread_text(row.advantage, "x") if row.advantage else "")
        lines.append(line)
    return lines


def _remark(row: Row) -> str:
    remarks = [f"{row.failures} failed"] if row.failures else []
    if row.left_over:
        remarks.append(f"{row.left_over} processes left over")
    return f" ({', '.join(remarks)})" if remarks else ""


def heading(plan: Plan) -> str:
    """Return what a table is about."""
    loop = f", {plan.loop}" if plan.case.loops else ""
    rounds = "1 round" if plan.rounds == 1 else f"{plan.rounds} rounds"
    return f"{plan.case.title} ({plan.case.name}{loop}, {rounds})"


def text_table(plan: Plan, rows: Sequence[Row]) -> str:
    """Return a table for a terminal."""
    lines = cells(plan, rows)
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    padded = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=False))
        )
        for line in lines
    ]
    return "\n".join([heading(plan), *(line.rstrip() for line in padded), ""])


def markdown_table(plan: Plan, rows: Sequence[Row]) -> str:
    """Return a table for a page."""
    header, *body = cells(plan, rows)
    rule = ["---", *("---:" for _ in header[1:])]
    filled = [[*line, *[""] * (len(header) - len(line))] for line in body]
    lines = [f"| {' | '.join(line)} |" for line in (header, rule, *filled)]
    return "\n".join([f"### {heading(plan)}", "", *lines, ""])


def markdown_page(environment: dict[str, Any], tables: Sequence[str]) -> str:
    """Return a whole run as a page."""
    packages = environment["packages"].items()
    versions = ", ".join(f"{name} {version}" for name, version in packages if version)
    about = (
        f"{environment['date']}, {environment['cpu']}, {environment['cpus']} CPUs, "
        f"{environment['system']} {environment['kernel']}, {environment['python']}, "
        f"commit {environment['commit']}. {versions}.\n\n"
        'Medians of interleaved rounds (smallest-largest). "lifepool better" is the '
        f"median of the ratios within each round."
    )
    return "\n".join(["# Benchmark", "", about, "", *tables])
