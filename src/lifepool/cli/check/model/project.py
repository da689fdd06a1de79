"""The model of a project: its modules, with names and roles that reach from one to the other."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from lifepool.cli.check.model.module import Module
from lifepool.cli.check.model.names import Names
from lifepool.cli.check.model.roles import Roles
from lifepool.cli.check.model.scopes import ClassBinding, Function, ModuleBinding, Value
from lifepool.cli.check.model.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from lifepool.cli.check.model.build import Parts
    from lifepool.cli.check.model.scopes import Import


class Project:
    """The files to check, and what they import.

    All files are added before the first name is looked up: what a name is may be written in any of them.

    Args:
        roots: The folders that imports are looked up in.

    Attributes:
        sources: All modules that were read, those that are only imported included.
        modules: Those to check, in order; empty before ``link``.
        names: Of all expressions.
        roles: What the functions of these modules are for; set by ``link``.
    """

    roles: Roles

    def __init__(self, roots: Iterable[Path]) -> None:
        self._parts: dict[Path, Parts] = {}
        self._app_state: dict[str, list[Value]] = defaultdict(list)
        self._request_state: dict[str, list[Value]] = defaultdict(list)
        self.sources: Sources = Sources(roots)
        self.names: Names = Names(self.sources, self._app_state, self._request_state)
        self.modules: list[Module] = []
        self._needed: dict[Path, frozenset[Path]] = {}

    def add(self, path: Path, source: str) -> None:
        """Read a file to check.

        Raises:
            SyntaxError: If it can't be parsed; ValueError, RecursionError, MemoryError: for other reasons.
        """
        parts = self._parts[path] = self.sources.add(source, path)
        for kept, found in ((self._app_state, parts.app_state), (self._request_state, parts.request_state)):
            for name, values in found.items():
                kept[name] += values

    def link(self) -> Iterator[tuple[Path, Exception]]:
        """Look up the names of all calls, then the roles. Yield the files in which that fails; they are left out."""
        for path, parts in self._parts.items():
            try:
                self.modules.append(Module(path, parts, self.names))
            except RecursionError as error:
                yield path, error
        self.roles = Roles(self.modules, self.names)

    # -- who imports whom ---------------------------------------------------------------------------------------------

    def reach(self, path: Path) -> set[Path]:
        """Return the modules that come with an import of one, itself included; by absolute path."""
        reached, ahead = {path.absolute()}, [path.absolute()]
        while ahead:
            new = self._imports_of(ahead.pop()) - reached
            reached |= new
            ahead += new
        return reached

    def importers(self, path: Path) -> Iterator[Parts]:
        """Yield the module itself and each known one that imports it, or a name of it."""
        for parts in self.sources.all_parts():
            other = parts.root.path.absolute()
            if other == path.absolute() or path.absolute() in self._imports_of(other):
                yield parts

    def _imports_of(self, path: Path) -> frozenset[Path]:
        if path not in self._needed:
            parts = self.sources.parts(path)
            imports = parts.imports if parts is not None else ()
            self._needed[path] = frozenset(file for each in imports for file in self._files_of(each))
        return self._needed[path]

    def _files_of(self, imported: Import) -> Iterator[Path]:
        """Yield the module that an import names, and the one that what it imports is from."""
        importer = imported.scope.module.path
        for name in (imported.name, imported.name.rpartition(".")[0]):
            module = self.sources.imported(name, importer) if name.strip(".") else None
            if module is not None:
                yield module.path
        match self.names.follow(imported):
            case ModuleBinding(path=path):
                yield path
            case Value(scope=scope) | ClassBinding(scope=scope) | Function(scope=scope):
                yield scope.module.path.absolute()
