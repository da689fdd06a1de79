"""Render the tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table as RichTable
from rich.text import Text

from lifepool.cli.units import number_text

if TYPE_CHECKING:
    from rich.console import Console

    from lifepool.cli.bench.comparison import BenchReport, Row, Survival, Table
    from lifepool.cli.summary import Spread

#: How users know the pools.
TITLES = {"standard": "ProcessPoolExecutor", "anyio": "anyio.to_process", "pebble": "pebble.ProcessPool"}


def render(report: BenchReport, console: Console) -> None:
    """Print where it was measured, a table for each case, and who survived."""
    machine = report.machine
    plural = "round" if report.rounds == 1 else "rounds"
    console.print(f"{machine['python']}, {machine['loop']}, {report.workers} workers, {report.rounds} {plural}")
    console.print(machine["packages"], style="dim")
    for table in report.tables:
        console.print(_speed(table))
    console.print(_survivals(report.survivals))
    for row in report.tables[0].rows:
        for failure in row.failures:
            console.print(Text(f"{_title(row.pool)}: {failure}", style="red"))
    if report.missing:
        console.print(Text(f"not installed, and so left out: pip install {' '.join(report.missing)}"))


def _speed(table: Table) -> RichTable:
    case = table.case
    made = _empty(f"{case.title} ({case.unit}, {case.better} is better)", "median", "range", "lifepool better by")
    for row in table.rows:
        made.add_row(_title(row.pool), *_figures(row))
    return made


def _figures(row: Row) -> tuple[str, str, str]:
    if row.figure is None:
        return "failed", "", ""
    return number_text(row.figure.median), _range(row.figure), _ratio(row.ratio)


def _range(spread: Spread) -> str:
    return f"{number_text(spread.low)} to {number_text(spread.high)}" if spread.rounds > 1 else ""


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    spread = f" ({_range(ratio)})" if ratio.rounds > 1 else ""
    return f"{number_text(ratio.median)}x{spread}"


def _survivals(survivals: tuple[Survival, ...]) -> RichTable:
    made = _empty("a worker is killed while it runs a task", "goes on", "")
    made.columns[-1].justify = "left"
    for each in survivals:
        goes_on = Text(f"{each.survived} of {each.rounds}", style="green" if each.survived == each.rounds else "red")
        made.add_row(_title(each.pool), goes_on, Text(each.detail))
    return made


def _empty(title: str, *columns: str) -> RichTable:
    made = RichTable(title=f"\n{title}", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    made.add_column("", width=20)
    for column in columns:
        made.add_column(column, justify="right")
    return made


def _title(pool: str) -> str:
    return TITLES.get(pool, pool)
