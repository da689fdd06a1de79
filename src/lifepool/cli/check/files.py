"""Find the files to check."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Folders that hold other people's code, or none. Those that begin with a dot are left out as well.
SKIPPED = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages", "venv"})


def find_files(paths: Iterable[Path], exclude: Iterable[str], root: Path) -> list[Path]:
    """Return the files to check, sorted, each once.

    Args:
        paths: Files, which are taken whatever they are called, and folders, which are searched for ``*.py``.
        exclude: Patterns of what to leave out, as ``migrations``, ``app/legacy`` or ``*_pb2.py``: the name of a file or
            folder, or a path from ``root``.
        root: Where the patterns are written down.
    """
    patterns = list(exclude)
    found = {file for path in paths for file in _files_in(path)}
    return sorted(file for file in found if not is_excluded(file, patterns, root))


def is_excluded(file: Path, patterns: Iterable[str], root: Path) -> bool:
    """Tell whether the file, or a folder it is in, matches a pattern."""
    absolute = Path(os.path.abspath(file))
    inside = absolute.relative_to(root) if absolute.is_relative_to(root) else Path(*absolute.parts[1:])
    parts = [inside, *inside.parents[:-1]]
    names = [name for part in parts for name in (part.name, part.as_posix())]
    return any(fnmatch(name, pattern.rstrip("/")) for pattern in patterns for name in names)


def _files_in(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, inner, files in os.walk(path):
        inner[:] = [name for name in inner if not _is_skipped(Path(folder, name))]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def _is_skipped(folder: Path) -> bool:
    return folder.name in SKIPPED or folder.name.startswith(".") or (folder / "pyvenv.cfg").exists()
