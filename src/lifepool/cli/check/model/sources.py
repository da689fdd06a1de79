"""The files of a project: read once each, and found by the names that imports give them."""

from __future__ import annotations

import ast
import io
import os
import sys
import tokenize
from typing import TYPE_CHECKING

from lifepool.cli.check.model.build import Parts, walk
from lifepool.cli.check.model.scopes import ModuleBinding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: Packages that the tables speak of: these names mean what they say, also in a project that has a copy of one.
_OTHERS = sys.stdlib_module_names | {"fastapi", "lifepool", "starlette", "uvicorn"}


def decode(data: bytes) -> str:
    """Decode source as Python does: by its byte order mark, its coding line, or UTF-8."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding).read()


class Sources:
    """The modules of a project.

    What is imported is read when a name is first looked up there, also if it is none of the files to check: a hook that
    is given the changed files of a commit knows the others.

    Args:
        roots: The folders of the project: imports are looked up in them, and in what they hold.

    Attributes:
        walked: How many files were parsed.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = [root.absolute() for root in roots]
        self._parts: dict[Path, Parts | None] = {}  # by absolute path
        self._folders: dict[Path, tuple[Path, ...]] = {}
        self._listed: dict[Path, frozenset[str]] = {}
        self.walked: int = 0

    def add(self, source: str, path: Path) -> Parts:
        """Take a file to check.

        Raises:
            SyntaxError: If it can't be parsed; ValueError, RecursionError, MemoryError: for other reasons.
        """
        self._parts[path.absolute()] = None
        parts = self._parts[path.absolute()] = self._walk(source, path)
        return parts

    def parts(self, path: Path) -> Parts | None:
        """Return what a module is made of that was read before."""
        return self._parts.get(path.absolute())

    def all_parts(self) -> list[Parts]:
        """Return all that was read."""
        return [parts for parts in self._parts.values() if parts is not None]

    def imported(self, dotted: str, importer: Path) -> ModuleBinding | None:
        """Return the module that a name refers to in a file; it may begin with dots.

        None: it is no module of the project.
        """
        name = dotted.lstrip(".")
        first, _, rest = name.partition(".")
        if name != dotted:
            return self._relative(len(dotted) - len(name), name, importer)
        if first in _OTHERS:
            return None
        for folder in self._import_folders(importer.absolute().parent):
            if first in self._importable(folder) and (found := self._in_folder(folder, first)):
                return self._descend(found, rest)
        return None

    def submodule(self, package: ModuleBinding, name: str) -> ModuleBinding | None:
        """Return a module of a package."""
        if package.root is None:
            return self._in_folder(package.path, name)
        return self._in_folder(package.path.parent, name) if package.path.name == "__init__.py" else None

    # -- finding ------------------------------------------------------------------------------------------------------

    def _relative(self, level: int, name: str, importer: Path) -> ModuleBinding | None:
        folder = importer.absolute().parent
        for _ in range(level - 1):
            folder = folder.parent
        return self._descend(self._package(folder), name)

    def _descend(self, module: ModuleBinding | None, dotted: str) -> ModuleBinding | None:
        for name in filter(None, dotted.split(".")):
            module = self.submodule(module, name) if module is not None else None
        return module

    def _in_folder(self, folder: Path, name: str) -> ModuleBinding | None:
        if name not in self._importable(folder):
            return None
        file = folder / f"{name}.py"
        if not (folder / name / "__init__.py").is_file() and file.is_file():
            return self._module(file)
        return self._package(folder / name) if (folder / name).is_dir() else None

    def _package(self, folder: Path) -> ModuleBinding | None:
        file = folder / "__init__.py"
        return self._module(file) if file.is_file() else ModuleBinding(folder, None)

    def _import_folders(self, folder: Path) -> tuple[Path, ...]:
        """Return the folders that imports in a folder may start from, the nearest first: no packages themselves."""
        if folder not in self._folders:
            self._folders[folder] = tuple(self._find_import_folders(folder))
        return self._folders[folder]

    def _find_import_folders(self, folder: Path) -> Iterator[Path]:
        around = [root for root in self._roots if folder.is_relative_to(root)]
        top = min(around, default=None, key=lambda root: len(root.parts))
        for each in (folder, *folder.parents):
            is_package = "__init__" in self._importable(each)
            if not is_package:
                yield each
            if each == top or (top is None and not is_package):
                break
        if top is not None:
            yield top / "src"

    def _importable(self, folder: Path) -> frozenset[str]:
        """Return the names of what may be imported from a folder."""
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(each.removesuffix(".py") for each in os.listdir(folder))
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]

    # -- reading ------------------------------------------------------------------------------------------------------

    def _module(self, file: Path) -> ModuleBinding | None:
        if file not in self._parts:
            self._parts[file] = None  # while it is read
            try:
                self._parts[file] = self._walk(decode(file.read_bytes()), file)
            except (SyntaxError, OSError, ValueError, RecursionError, MemoryError):
                return None  # not known; if it is a file to check, that says why
        parts = self._parts[file]
        return None if parts is None else ModuleBinding(file, parts.root)

    def _walk(self, source: str, path: Path) -> Parts:
        self.walked += 1
        return walk(ast.parse(source), path)
