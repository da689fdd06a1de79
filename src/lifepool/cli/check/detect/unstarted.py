"""LP012: a pool of lifepool's that nothing starts."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lifepool.cli.check.finding import Hit
from lifepool.cli.check.tables import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module

_APPS = frozenset({"fastapi.FastAPI", "starlette.applications.Starlette"})
#: What may be done with a pool that does not start it. Everything else might: it is given away, entered, ...
_USES = words(
    "run submit map gather task batch resource statistics readiness workers cancel add_hook max_workers state config"
)


def find(module: Module) -> Iterator[Hit]:
    """Look at global pools of a module that makes the app as well."""
    makes_app = any(call.name in _APPS for call in module.calls)
    for call in module.calls if makes_app else ():
        if call.name == "lifepool.Pool" and call.function is None:
            variable = module.global_name(call)
            if variable and _is_only_used(variable, module.tree):
                yield Hit(
                    "LP012", call.node, f"nothing starts `{variable}`: no lifespan, no `install`, no `async with`"
                )


def _is_only_used(variable: str, tree: ast.Module) -> bool:
    """Tell whether all that is done with a pool is calling methods that start nothing, at least once."""
    mentions = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == variable]
    loads = [node for node in mentions if isinstance(node.ctx, ast.Load)]
    uses = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in _USES
    }
    return bool(loads) and all(node in uses for node in loads)
