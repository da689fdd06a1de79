"""Read the files of a project into its model: what `check`, `doctor` and `advise` know of a program without running it.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool.cli.check.model.project import Project
from lifepool.cli.check.model.sources import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: Python calls in one another. The usual 1000 are used up by a sum of 500 terms; they take no C stack.
_DEPTH = 20_000


@dataclass(frozen=True)
class Reading:
    """The files that were read.

    Attributes:
        project: Their model, linked.
        texts: The source of each file.
        unreadable: The files that can't be parsed, each with the reason.
    """

    project: Project
    texts: dict[Path, str]
    unreadable: tuple[tuple[Path, Exception], ...]


@contextmanager
def read(files: Iterable[Path], roots: Iterable[Path]) -> Iterator[Reading]:
    """Read files together; what is asked of the model is asked inside the ``with``.

    Args:
        files: What to read.
        roots: The folders of the project, where its imports start; without one, those of its packages.
    """
    with _recursion(_DEPTH), _without_garbage_collection():
        project = Project(roots)
        texts: dict[Path, str] = {}
        unreadable: list[tuple[Path, Exception]] = []
        for file in files:
            try:
                texts[file] = decode(file.read_bytes())
                project.add(file, texts[file])
            except (SyntaxError, OSError, ValueError, RecursionError, MemoryError) as error:
                unreadable.append((file, error))
        unreadable.extend(project.link())
        yield Reading(project, texts, tuple(unreadable))


@contextmanager
def _recursion(limit: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep the collector from walking the growing syntax trees again and again: nothing in them is garbage."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
