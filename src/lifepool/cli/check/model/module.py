"""The model of one module of the user's."""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING

from lifepool.cli.check.model.scopes import Value

if TYPE_CHECKING:
    from pathlib import Path

    from lifepool.cli.check.model.build import Parts
    from lifepool.cli.check.model.names import Names
    from lifepool.cli.check.model.scopes import Call, Scope


class Module:
    """The model of a file; its calls have their names.

    Args:
        path: The file, as it was named.
        parts: What a walk of the tree has noted.
        names: Of the project's expressions.

    Attributes:
        root: The module's scope.
        calls: All calls in it, in order.
    """

    def __init__(self, path: Path, parts: Parts, names: Names) -> None:
        self.path = path
        self.parts = parts
        self.names: Names = names
        self.root: Scope = parts.root
        self.calls: tuple[Call, ...] = parts.calls
        for call in self.calls:
            call.name = names.of(call.node.func, call.scope) or ""

    @property
    def tree(self) -> ast.AST:
        """Return its parsed source."""
        return self.root.node

    @cached_property
    def imports(self) -> set[str]:
        """Return the first parts of all names that are imported in it."""
        nodes = list(ast.walk(self.tree))
        whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        parts = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        return {name.partition(".")[0] for name in whole | parts}

    def global_name(self, call: Call) -> str | None:
        """Return the global name that a call's result is bound to, if there is one."""
        for name, bindings in self.root.names.items():
            if any(isinstance(each, Value) and each.value is call.node for each in bindings):
                return name
        return None
