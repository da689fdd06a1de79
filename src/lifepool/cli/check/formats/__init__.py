"""Ways to write a report: one module each, with ``render(report) -> str``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.cli.check.formats import github, json, sarif, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.cli.check.checker import Report

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text.render,
    "json": json.render,
    "sarif": sarif.render,
    "github": github.render,
}
