"""LP001, LP002, LP003: pools that are made too often, or never ended."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lifepool.cli.check.detect.known import BREAKABLE_POOLS, makes_processes, short
from lifepool.cli.check.finding import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.scopes import Call, Function


def find(module: Module) -> Iterator[Hit]:
    """Look at every call that makes a pool."""
    for call in module.calls:
        if not makes_processes(call):
            continue
        if (function := call.function) is None or call.kept:
            if call.name in BREAKABLE_POOLS and function not in module.roles.at_start and _is_left_alone(call, module):
                yield Hit(
                    "LP003", call.node, f"the global {short(call.name)} is never shut down, and one crash breaks it"
                )
        elif function in module.roles.per_request:
            yield Hit("LP001", call.node, f"{short(call.name)} is made in {_handler(function, module)}")
        elif function.is_async and function not in module.roles.once and not _lives_longer(call, function):
            yield Hit("LP002", call.node, f"{short(call.name)} is made in each call of `async def {function.name}`")


def _handler(function: Function, module: Module) -> str:
    handler = module.roles.per_request[function]
    if handler is function:
        return f"`{function.name}`, for each request"
    return f"`{function.name}`, which the handler `{handler.name}` (line {handler.node.lineno}) leads to"


def _lives_longer(call: Call, function: Function) -> bool:
    """Tell whether the pool outlives the call: it is returned, or made in a context manager or at start-up."""
    return call.returned or function.is_generator or function.name.startswith(("__a", "start", "setup", "open"))


def _is_left_alone(call: Call, module: Module) -> bool:
    """Tell whether a global pool is neither shut down nor entered in the module. Code below the guard is free to."""
    variable = module.global_name(call)
    if variable is None or call.guarded:
        return False
    return not any(_ends(node, variable) for node in ast.walk(module.tree))


def _ends(node: ast.AST, variable: str) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id=name), attr="shutdown") | ast.withitem(context_expr=ast.Name(id=name)):
            return name == variable
    return False
