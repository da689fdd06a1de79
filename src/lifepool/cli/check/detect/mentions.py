"""Where a project mentions one of its globals, or an attribute, and what it does with it there."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lifepool.cli.check.model.build import Parts
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Value


class Mention(NamedTuple):
    """A place that reads it.

    Attributes:
        node: What stands there: ``pool``, ``pools.pool``.
        parent: What that is a part of: ``pool.run``, ``async with pool``.
    """

    node: ast.expr
    parent: ast.AST

    @property
    def attribute(self) -> str:
        """Return ``run`` of ``pool.run``; empty if it is something else."""
        return self.parent.attr if isinstance(self.parent, ast.Attribute) else ""


def of_global(value: Value, variable: str, project: Project) -> Iterator[Mention]:
    """Yield each mention of a global: by its name, by those that imports give it, as an attribute of its module.

    What only has the same name counts as well: more mentions mean fewer findings.
    """
    home = value.scope.module
    for parts in project.importers(home.path):
        names = {each.variable for each in parts.imports if project.names.follow(each) is value}
        if parts.root is home or parts.root.stars:
            names.add(variable)
        yield from _in(parts.root.node, names, {*names, variable})


def of_attribute(attribute: str, parts: Iterable[Parts]) -> Iterator[Mention]:
    """Yield each mention of ``anything.attribute``."""
    for each in parts:
        yield from _in(each.root.node, frozenset(), {attribute})


def of_variable(variable: str, tree: ast.AST) -> Iterator[Mention]:
    """Yield each mention of a name in a tree."""
    yield from _in(tree, {variable}, frozenset())


def _in(tree: ast.AST, names: Iterable[str], attributes: Iterable[str]) -> Iterator[Mention]:
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            match node:
                case ast.Name(id=name, ctx=ast.Load()) if name in names:
                    yield Mention(node, parent)
                case ast.Attribute(attr=name, ctx=ast.Load()) if name in attributes:
                    yield Mention(node, parent)
