"""Check files: parse them, detect, and leave out what was not asked for."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool.cli.check import detect
from lifepool.cli.check.comments import Ignores
from lifepool.cli.check.detect.loops import has_base_http_middleware
from lifepool.cli.check.finding import Finding, Hit, Location
from lifepool.cli.check.model.project import Project
from lifepool.cli.check.model.sources import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set
    from pathlib import Path

    from lifepool.cli.check.model.module import Module

#: Python calls in one another. The usual 1000 are used up by a sum of 500 terms; they take no C stack.
_DEPTH = 20_000


@dataclass(frozen=True)
class Report:
    """The result of a run.

    Attributes:
        files: How many were looked at.
        findings: In order of file and location.
    """

    files: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Reading:
    """What was read, and what was found in it.

    Attributes:
        project: The model of the source.
        report: The result.
    """

    project: Project
    report: Report


@dataclass(frozen=True)
class _Checked:
    """The result of one file, and what it says about the others."""

    findings: tuple[Finding, ...]
    behind_middleware: tuple[Finding, ...] = ()
    has_middleware: bool = False


def check_files(files: Iterable[Path], codes: Set[str], roots: Iterable[Path] = ()) -> Report:
    """Check files, together: what one imports from another is looked up there.

    Args:
        files: What to read.
        codes: The rules to apply.
        roots: The folders of the project, where its imports start; without one, those of its packages.
    """
    return read_and_check(files, codes, roots).report


def read_and_check(files: Iterable[Path], codes: Set[str], roots: Iterable[Path] = ()) -> Reading:
    """Check files as `check_files` does; return the model of the project too."""
    project = Project(roots)
    with _recursion(_DEPTH), _without_garbage_collection():
        checked = [*_check_project(project, files)]
    findings = [finding for each in checked for finding in each.findings]
    if any(each.has_middleware for each in checked):
        findings += [finding for each in checked for finding in each.behind_middleware]
    wanted = (finding for finding in findings if finding.code in codes)
    ordered = sorted(wanted, key=lambda each: (each.path, each.location, each.code))
    return Reading(project, Report(len(checked), tuple(ordered)))


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


def _check_project(project: Project, files: Iterable[Path]) -> Iterator[_Checked]:
    texts: dict[Path, str] = {}
    for file in files:
        try:
            texts[file] = decode(file.read_bytes())
            project.add(file, texts[file])
        except (SyntaxError, OSError, ValueError, RecursionError, MemoryError) as error:
            yield _unreadable(file, error)
    for file, failure in project.link():
        yield _unreadable(file, failure)
    for module in project.modules:
        yield _check_module(module, project, texts[module.path])


def _check_module(module: Module, project: Project, source: str) -> _Checked:
    lines = source.split("\n")
    ignores = Ignores(source)
    found: dict[bool, list[Finding]] = {False: [], True: []}
    for hit in dict.fromkeys(detect.hits(module, project)):
        finding = _finding(hit, module.path, lines)
        if not ignores.cover(finding.code, finding.location):
            found[hit.behind_middleware].append(finding)
    return _Checked(tuple(found[False]), tuple(found[True]), has_base_http_middleware(module))


def _finding(hit: Hit, file: Path, lines: list[str]) -> Finding:
    node = hit.node
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    location = Location(
        node.lineno, _column(lines, node.lineno, node.col_offset), end_line, _column(lines, end_line, end_column)
    )
    return Finding(file, location, hit.code, hit.message)


def _column(lines: list[str], line: int, offset: int) -> int:
    """Return a column in characters from 1, from ``ast``'s offset in bytes of UTF-8."""
    text = lines[line - 1]
    return offset + 1 if text.isascii() else len(text.encode()[:offset].decode(errors="ignore")) + 1


def _unreadable(file: Path, error: Exception) -> _Checked:
    match error:
        case SyntaxError(msg=why, lineno=line, offset=column):
            at = (line or 1, max(column or 1, 1))
        case RecursionError() | MemoryError():  # the parser of older Pythons says that its stack is out of memory
            why, at = "it is nested too deeply", (1, 1)
        case _:
            why, at = getattr(error, "strerror", None) or str(error), (1, 1)
    return _Checked((Finding(file, Location(*at, at[0], at[1] + 1), "LP000", f"this file can't be read: {why}"),))
