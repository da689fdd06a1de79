"""LP001, LP002, LP003: pools that are made too often, or never ended."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lifepool.cli.check.detect import mentions
from lifepool.cli.check.detect.known import BREAKABLE_POOLS, makes_processes, place_of, short
from lifepool.cli.check.finding import Hit
from lifepool.cli.check.model.scopes import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Call, Function


def find(module: Module, project: Project) -> Iterator[Hit]:
    """Look at every call that makes a pool."""
    for call in module.calls:
        if not makes_processes(call):
            continue
        if (function := call.function) is None or call.kept:
            if (
                call.name in BREAKABLE_POOLS
                and function not in project.roles.at_start
                and _is_left_alone(call, module, project)
            ):
                yield Hit(
                    "LP003", call.node, f"the global {short(call.name)} is never shut down, and one crash breaks it"
                )
        elif function in project.roles.per_request:
            yield Hit("LP001", call.node, f"{short(call.name)} is made in {_handler(function, project)}")
        elif function.is_async and function not in project.roles.once and not _lives_longer(call, function):
            yield Hit("LP002", call.node, f"{short(call.name)} is made in each call of `async def {function.name}`")


def _handler(function: Function, project: Project) -> str:
    handler = project.roles.per_request[function]
    if handler is function:
        return f"`{function.name}`, for each request"
    return f"`{function.name}`, which the handler `{handler.name}` ({place_of(handler, function)}) leads to"


def _lives_longer(call: Call, function: Function) -> bool:
    """Tell whether the pool outlives the call: it is returned, or made in a context manager or at start-up."""
    return call.returned or function.is_generator or function.name.startswith(("__a", "start", "setup", "open"))


def _is_left_alone(call: Call, module: Module, project: Project) -> bool:
    """Tell whether a global pool is neither shut down nor entered. Code below the guard is free to."""
    variable = module.global_name(call)
    if variable is None or call.guarded:
        return False
    value = next(each for each in module.root.names[variable] if isinstance(each, Value) and each.value is call.node)
    return not any(
        mention.attribute == "shutdown" or isinstance(mention.parent, ast.withitem)
        for mention in mentions.of_global(value, variable, project)
    )
