"""The model of one module of the user's."""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING

from lifepool.cli.check.model.build import walk
from lifepool.cli.check.model.names import Names
from lifepool.cli.check.model.roles import Roles
from lifepool.cli.check.model.scopes import Value

if TYPE_CHECKING:
    from lifepool.cli.check.model.scopes import Call, Scope


class Module:
    """The model of a file.

    Args:
        tree: Its parsed source.
        file_name: Without its folder: ``__main__.py`` is special.

    Attributes:
        names: Of its expressions.
        root: The module's scope.
        calls: All calls in it, in order.
        roles: What its functions are for.
    """

    def __init__(self, tree: ast.Module, file_name: str) -> None:
        parts = walk(tree)
        self.tree = tree
        self.file_name = file_name
        self.names: Names = Names()
        self.root: Scope = parts.root
        self.calls: tuple[Call, ...] = parts.calls
        for call in self.calls:
            call.name = self.names.of(call.node.func, call.scope) or ""
        self.roles: Roles = Roles(parts, self.names)

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
