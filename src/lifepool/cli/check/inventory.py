"""List what a project has: its apps, its pools, and the functions that are worth measuring. Nothing is imported."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool.cli.check.detect.blocking import heavy_functions
from lifepool.cli.check.detect.known import APPS
from lifepool.cli.check.detect.sending import sent_functions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Function

#: Folders of code that no server serves.
_NOT_SERVED = frozenset({"tests", "test", "docs", "examples", "benchmarks"})


@dataclass(frozen=True, slots=True)
class Item:
    """Something of a module that can be imported by name.

    Attributes:
        name: ``module:attribute``.
        folder: Where Python must start for that name.
        path: Its file, from the project's folder.
        line: Where it is.
    """

    name: str
    folder: Path
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class App(Item):
    """An app, or a function that makes one.

    Attributes:
        is_factory: It is such a function.
        has_lifepool: Its module, or one that comes with it, imports lifepool.
    """

    is_factory: bool
    has_lifepool: bool


@dataclass(frozen=True, slots=True)
class Candidate(Item):
    """A function of which it is worth knowing what it costs.

    Attributes:
        why: What the project does with it.
        arguments: Arguments for ``lifepool advise`` by the annotations; None if these don't tell.
        parameters: The names of those that it must be given.
    """

    why: str
    arguments: str | None
    parameters: tuple[str, ...]


class Inventory:
    """What is in a project.

    Args:
        project: Its model.
        folder: Where it is.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        self._folder = folder.absolute()
        self._served = [module for module in project.modules if self.serves(module.path)]

    @property
    def apps(self) -> list[App]:
        """Return the apps in globals, and the functions without arguments that return one."""
        return [app for module in self._served for app in self._apps_of(module)]

    @property
    def pools(self) -> list[Item]:
        """Return the pools of lifepool's in globals."""
        return [
            self._item(module, name, call.node.lineno)
            for module in self._served
            for call in module.calls
            if call.name == "lifepool.Pool" and (name := module.global_name(call)) is not None
        ]

    @property
    def candidates(self) -> list[Candidate]:
        """Return the functions that are sent to workers, and plain ones that compute on the event loop; each once."""
        found: dict[Function, str] = {}
        for module in self._served:
            for function, line in sent_functions(module, self._project.names):
                found.setdefault(function, f"sent to a pool at {self._shown(module.path)}:{line}")
            for function, line in heavy_functions(module, self._project):
                found.setdefault(function, f"computes on the event loop in line {line}")
        modules = {module.path.absolute(): module for module in self._project.modules}
        candidates = []
        for function, why in found.items():
            module_of_it = modules.get(function.home.module.path.absolute())
            if module_of_it is not None and function.home is module_of_it.root and not function.is_async:
                item = self._item(module_of_it, function.name, function.node.lineno)
                candidates.append(_candidate(item, function, why))
        return sorted(candidates, key=lambda each: (each.path, each.line))

    def serves(self, file: Path) -> bool:
        """Return whether a file may belong to what is served: no tests, documentation, examples or benchmarks."""
        path = file.absolute()
        inside = path.relative_to(self._folder).parts if path.is_relative_to(self._folder) else path.parts
        is_test = inside[-1].startswith("test_") or inside[-1] == "conftest.py"
        return not is_test and _NOT_SERVED.isdisjoint(inside[:-1])

    def _apps_of(self, module: Module) -> Iterator[App]:
        for call in module.calls:
            if call.name in APPS and (name := module.global_name(call)) is not None:
                yield self._app(module, name, call.node.lineno, is_factory=False)
        for function in module.parts.functions:
            makes = {self._project.names.of(each, function.scope) for each in function.gives}
            is_importable = function.home is module.root and not function.is_async and not function.is_generator
            if is_importable and makes & {f"{app}()" for app in APPS} and not _required(function):
                yield self._app(module, function.name, function.node.lineno, is_factory=True)

    def _app(self, module: Module, name: str, line: int, *, is_factory: bool) -> App:
        item = self._item(module, name, line)
        reached = map(self._project.sources.parts, self._project.reach(module.path))
        imports = {each.name.partition(".")[0] for parts in reached if parts is not None for each in parts.imports}
        return App(item.name, item.folder, item.path, item.line, is_factory, "lifepool" in imports)

    def _item(self, module: Module, name: str, line: int) -> Item:
        path = module.path.absolute()
        folder = self._start_of(module, path)
        parts = path.relative_to(folder).with_suffix("").parts
        dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        return Item(f"{dotted}:{name}", folder, self._shown(path), line)

    def _start_of(self, module: Module, path: Path) -> Path:
        """Return the folder that a module's imports start from: that where most of what it imports is found."""
        folders = [each for each in path.parents if each.is_relative_to(self._folder)]
        starts = [each for each in folders if not (each / "__init__.py").is_file()] or [self._folder]
        wanted = {each.name.partition(".")[0] for each in module.parts.imports} - {""}

        def found_in(folder: Path) -> int:
            return sum((folder / name).is_dir() or (folder / f"{name}.py").is_file() for name in wanted)

        # Of those that are as good: ``src``, else the outermost, which is where servers are started.
        return max(starts, key=lambda each: (found_in(each), each.name == "src", -len(each.parts)))

    def _shown(self, path: Path) -> str:
        path = path.absolute()
        return (path.relative_to(self._folder) if path.is_relative_to(self._folder) else path).as_posix()


def read_text(files: int) -> str:
    """Say how many files were read."""
    return "1 file was read" if files == 1 else f"{files} files were read"


#: What stands for a value of a size, by annotation.
_SIZED = {
    "str": "'a' * n",
    "bytes": "b'a' * n",
    "int": "n",
    "float": "float(n)",
    "list": "[1] * n",
    "list[int]": "[1] * n",
    "list[float]": "[0.5] * n",
    "list[str]": "['a'] * n",
    "Sequence[float]": "[0.5] * n",
    "Sequence[int]": "[1] * n",
    "Sequence[str]": "['a'] * n",
}


def _candidate(item: Item, function: Function, why: str) -> Candidate:
    required = _required(function)
    shown = [_SIZED.get(ast.unparse(each.annotation) if each.annotation else "") for each in required]
    by_name = {each.arg for each in function.node.args.kwonlyargs}
    is_known = all(shown) and by_name.isdisjoint(each.arg for each in required)
    arguments = ", ".join(each for each in shown if each) if is_known else None
    names = tuple(each.arg for each in required)
    return Candidate(item.name, item.folder, item.path, item.line, why, arguments, names)


def _required(function: Function) -> list[ast.arg]:
    """Return the parameters that must be given by position; one that must be given by name counts too."""
    arguments = function.node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    by_name = [each for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if not default]
    return positional[: len(positional) - len(arguments.defaults)] + by_name
