"""Read ``# lifepool: ignore[LP001]``: comments that suppress findings."""

from __future__ import annotations

import io
import re
import tokenize
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool.cli.check.finding import Location

_IGNORE = re.compile(r"#\s*lifepool:\s*ignore(?:\[(?P<codes>[^\]]*)\])?", re.IGNORECASE)


class Ignores:
    """The comments of a file.

    Args:
        source: Its text; it can be parsed.
    """

    def __init__(self, source: str) -> None:
        self._by_line: dict[int, frozenset[str] | None] = {}  # None: every rule
        if "lifepool:" not in source.lower():
            return
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT and (match := _IGNORE.search(token.string)):
                self._by_line[token.start[0]] = _codes(match["codes"])

    def cover(self, code: str, location: Location) -> bool:
        """Tell whether a comment on the first or the last line of a location is about this rule."""
        for line in {location.line, location.end_line} & self._by_line.keys():
            codes = self._by_line[line]
            if codes is None or code in codes:
                return True
        return False


def _codes(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(code.strip().upper() for code in text.split(","))
