"""Detect the anti-patterns: one module for each family, with ``find(module, project)`` that yields hits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.cli.check.detect import awaiting, blocking, loops, pools, sending, starts, unstarted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.finding import Hit
    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.project import Project

_FAMILIES = (pools, starts, blocking, sending, loops, unstarted, awaiting)


def hits(module: Module, project: Project) -> Iterator[Hit]:
    """Yield everything that is found in a module, family by family."""
    for family in _FAMILIES:
        yield from family.find(module, project)
