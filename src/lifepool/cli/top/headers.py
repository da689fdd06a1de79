"""Parse headers as they are typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.cli.top.source import NoPage

if TYPE_CHECKING:
    from collections.abc import Sequence


def parsed(headers: Sequence[str]) -> dict[str, str]:
    """Return ``["Name: value"]`` as a dict.

    Raises:
        NoPage: If one has no colon.
    """
    found = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip() or "\n" in header or "\r" in header:
            raise NoPage(f'--header {header!r}: expected "Name: value"')
        found[name.strip()] = value.strip()
    return found
