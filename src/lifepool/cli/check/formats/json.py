"""For programs: one object."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lifepool.cli.check.checker import Report
    from lifepool.cli.check.finding import Finding


def render(report: Report) -> str:
    """Write ``{"files": n, "findings": [{"path": ..., "line": ..., "code": ..., ...}]}``."""
    return json.dumps({"files": report.files, "findings": [_entry(each) for each in report.findings]}, indent=2)


def _entry(finding: Finding) -> dict[str, Any]:
    rule = finding.rule
    about = {"level": rule.level, "title": rule.title, "why": rule.why, "fix": rule.fix}
    return {
        "path": finding.path.as_posix(),
        **asdict(finding.location),
        "code": finding.code,
        "message": finding.message,
        **about,
    }
