"""Check files: parse them, detect, and leave out what was not asked for."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool.cli.check import detect
from lifepool.cli.check.comments import Ignores
from lifepool.cli.check.detect.loops import has_base_http_middleware
from lifepool.cli.check.finding import Finding, Hit, Location
from lifepool.cli.check.model.module import Module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set
    from pathlib import Path

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
class _Checked:
    """The result of one file, and what it says about the others."""

    findings: tuple[Finding, ...]
    behind_middleware: tuple[Finding, ...] = ()
    has_middleware: bool = False


def check_files(files: Iterable[Path], codes: Set[str]) -> Report:
    """Check each file.

    Args:
        files: What to read.
        codes: The rules to apply.
    """
    with _recursion(_DEPTH):
        checked = [_check_file(file) for file in files]
    findings = [finding for each in checked for finding in each.findings]
    if any(each.has_middleware for each in checked):
        findings += [finding for each in checked for finding in each.behind_middleware]
    wanted = (finding for finding in findings if finding.code in codes)
    return Report(len(checked), tuple(sorted(wanted, key=lambda each: (each.path, each.location, each.code))))


@contextmanager
def _recursion(limit: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _check_file(file: Path) -> _Checked:
    try:
        source = _text(file.read_bytes())
        return _check_source(source, file)
    except SyntaxError as error:
        return _unreadable(file, error.msg, error.lineno, error.offset)
    except (OSError, ValueError) as error:
        return _unreadable(file, getattr(error, "strerror", None) or str(error))
    except (RecursionError, MemoryError):  # the parser of older Pythons says that its stack is out of memory
        return _unreadable(file, "it is nested too deeply")


def _text(data: bytes) -> str:
    """Decode source as Python does: by its byte order mark, its coding line, or UTF-8."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding).read()


def _check_source(source: str, file: Path) -> _Checked:
    module = Module(ast.parse(source), file.name)
    lines = source.split("\n")
    ignores = Ignores(source)
    found: dict[bool, list[Finding]] = {False: [], True: []}
    for hit in dict.fromkeys(detect.hits(module)):
        finding = _finding(hit, file, lines)
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


def _unreadable(file: Path, why: str, line: int | None = None, column: int | None = None) -> _Checked:
    at = (line or 1, max(column or 1, 1))
    return _Checked((Finding(file, Location(*at, at[0], at[1] + 1), "LP000", f"this file can't be read: {why}"),))
