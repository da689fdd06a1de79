"""Findings in sections, and the exit code that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lifepool.errors import PoolError

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What it is, in a word or two.
        status: ``ok``; ``warn``: it works, but worse than it could, or not under load; ``fail``: it does not work.
        found: What was found.
        fix: What to do about it, one sentence; None if all is well.
    """

    topic: str
    status: Status
    found: str
    fix: str | None = None


def ok(topic: str, found: str) -> Finding:
    """Make the finding that all is well."""
    return Finding(topic, "ok", found)


def warn(topic: str, found: str, fix: str) -> Finding:
    """Make the finding that something works, but worse than it could."""
    return Finding(topic, "warn", found, fix)


def fail(topic: str, found: str, fix: str) -> Finding:
    """Make the finding that something does not work."""
    return Finding(topic, "fail", found, fix)


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return an exception as what was found, and what to do about it."""
    message = str(error.args[0]) if isinstance(error, PoolError) else str(error)
    fix = getattr(error, "hint", "") or "report this with the output of `lifepool doctor --json`"
    return f"{type(error).__name__}: {message}", fix


@dataclass(frozen=True, slots=True)
class Section:
    """Findings that belong together."""

    title: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found."""

    sections: tuple[Section, ...]

    @property
    def exit_code(self) -> int:
        """Return 1 if something does not work, else 0."""
        return 1 if self.count("fail") else 0

    def count(self, status: Status) -> int:
        """Return how many findings have this status."""
        return sum(finding.status == status for section in self.sections for finding in section.findings)
