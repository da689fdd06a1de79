"""For code scanning: SARIF 2.1.0, the OASIS standard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import lifepool
from lifepool.cli.check.rules import RULES

if TYPE_CHECKING:
    from lifepool.cli.check.checker import Report
    from lifepool.cli.check.finding import Finding
    from lifepool.cli.check.rules import Rule

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_CODES = list(RULES)


def render(report: Report) -> str:
    """Write one run, with all rules, so that a viewer can explain each."""
    driver = {
        "name": "lifepool check",
        "version": lifepool.__version__,
        "rules": [_rule(rule) for rule in RULES.values()],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding) for finding in report.findings],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": rule.level},
    }


def _result(finding: Finding) -> dict[str, Any]:
    location = finding.location
    region = {
        "startLine": location.line,
        "startColumn": location.column,
        "endLine": location.end_line,
        "endColumn": location.end_column,
    }
    where = {"artifactLocation": _artifact(finding.path), "region": region}
    return {
        "ruleId": finding.code,
        "ruleIndex": _CODES.index(finding.code),
        "level": finding.rule.level,
        "message": {"text": f"{finding.message}. {finding.rule.fix}"},
        "locations": [{"physicalLocation": where}],
    }


def _artifact(path: Path) -> dict[str, str]:
    """Return a URI relative to the current folder, as viewers want it; of what is elsewhere, an absolute one."""
    absolute = path.absolute()
    if not absolute.is_relative_to(Path.cwd()):
        return {"uri": absolute.as_uri()}
    return {"uri": quote(absolute.relative_to(Path.cwd()).as_posix()), "uriBaseId": "%SRCROOT%"}
