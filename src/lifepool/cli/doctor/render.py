"""Render a report for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from lifepool.cli.doctor.findings import Finding, Report

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_TOPIC_WIDTH = 14


def render(report: Report, console: Console) -> None:
    """Print the sections, and one line that sums them up."""
    for section in report.sections:
        console.print(Text(section.title, style="bold"))
        table = Table.grid(padding=(0, 1))
        table.add_column(width=4)
        table.add_column(width=_TOPIC_WIDTH)
        table.add_column(overflow="fold")
        for finding in section.findings:
            table.add_row(Text(finding.status, _STYLES[finding.status]), Text(finding.topic), _text(finding))
        console.print(Padding(table, (0, 0, 1, 1)))
    console.print(_summary(report))


def _text(finding: Finding) -> Text:
    # Text, not markup: what was found may have brackets in it.
    text = Text(finding.found)
    if finding.fix:
        text.append(f"\nfix: {finding.fix}", style="bold")
    return text


def _summary(report: Report) -> Text:
    failed, warned = report.count("fail"), report.count("warn")
    if failed:
        return Text(f"{failed} failed, {warned} to look at", style=_STYLES["fail"])
    if warned:
        return Text(f"it works; {warned} to look at", style=_STYLES["warn"])
    return Text("all is well", style=_STYLES["ok"])
