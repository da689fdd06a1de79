"""For GitHub Actions: workflow commands, which it shows beside the lines of a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool.cli.check.checker import Report
    from lifepool.cli.check.finding import Finding

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def render(report: Report) -> str:
    """Write ``::error file=...,line=...::message``, a line for each finding."""
    return "\n".join(_command(finding) for finding in report.findings)


def _command(finding: Finding) -> str:
    location = finding.location
    properties = {
        "file": finding.path.as_posix(),
        "line": location.line,
        "endLine": location.end_line,
        "col": location.column,
        "endColumn": location.end_column,
        "title": f"{finding.code}: {finding.rule.title}",
    }
    listed = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in properties.items())
    return f"::{_COMMANDS[finding.rule.level]} {listed}::{_escaped(f'{finding.message}. {finding.rule.fix}')}"


def _escaped(text: str, also: str = "") -> str:
    """Escape text as the toolkit of GitHub's actions does: the percent sign first."""
    for character in f"%\r\n{also}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
