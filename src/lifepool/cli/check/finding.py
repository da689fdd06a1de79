"""Hits of the detectors, and findings: hits in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool.cli.check.rules import RULES

if TYPE_CHECKING:
    import ast
    from pathlib import Path

    from lifepool.cli.check.rules import Rule


@dataclass(frozen=True, order=True)
class Location:
    """A piece of source, as editors count: lines and columns from 1, the end column is the one after it."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Hit:
    """What a detector says.

    Attributes:
        code: The rule's.
        node: The source it is about.
        message: One sentence about this location.
        behind_middleware: It matters only if the program has a ``BaseHTTPMiddleware`` somewhere.
    """

    code: str
    node: ast.expr
    message: str
    behind_middleware: bool = False


@dataclass(frozen=True)
class Finding:
    """A hit in a file.

    Attributes:
        path: The file, as it was named.
        location: Where in it.
        code: The rule's.
        message: One sentence about this location.
    """

    path: Path
    location: Location
    code: str
    message: str

    @property
    def rule(self) -> Rule:
        """Return the rule, from the table."""
        return RULES[self.code]
