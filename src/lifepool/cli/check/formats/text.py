"""For people: a line for each finding, then what each rule that was broken is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.cli.check.rules import RULES

if TYPE_CHECKING:
    from lifepool.cli.check.checker import Report
    from lifepool.cli.check.finding import Finding
    from lifepool.cli.check.rules import Rule


def render(report: Report) -> str:
    """Write ``path:line:column: code message``, the rules, and a last line with the count."""
    lines = [_line(finding) for finding in report.findings]
    broken = sorted({finding.code for finding in report.findings})
    rules = [f"\n{_summary(RULES[code])}" for code in broken]
    return "\n".join([*lines, *rules, *([""] if broken else []), _count(report)])


def explain(rule: Rule) -> str:
    """Write everything about one rule, with an example of each kind."""
    return f"{_summary(rule)}\n\nbad:\n\n{_indented(rule.bad)}\n\ngood:\n\n{_indented(rule.good)}"


def _line(finding: Finding) -> str:
    return f"{finding.path}:{finding.location.line}:{finding.location.column}: {finding.code} {finding.message}"


def _summary(rule: Rule) -> str:
    return f"{rule.code} ({rule.level}): {rule.title}\n  why: {rule.why}\n  fix: {rule.fix}"


def _indented(source: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in source.splitlines())


def _count(report: Report) -> str:
    found = len(report.findings)
    return (
        f"{found or 'no'} finding{'' if found == 1 else 's'} in {report.files} file{'' if report.files == 1 else 's'}"
    )
