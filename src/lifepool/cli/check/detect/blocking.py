"""LP005, LP006, LP007: calls that block the event loop."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lifepool.cli.check.detect import mentions
from lifepool.cli.check.detect.holdups import ANSWERS, always_wrong, heavy, waits
from lifepool.cli.check.detect.known import place_of, short
from lifepool.cli.check.finding import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Function


def find(module: Module, project: Project) -> Iterator[Hit]:
    """Look at the calls that run on the event loop."""
    for call in module.calls:
        function = call.function
        if call.awaited or function is None or function not in project.roles.on_loop:
            continue
        if {function, project.roles.on_loop[function]} & project.roles.programs and not always_wrong(call.name):
            continue
        if (hit := _judged(call.node, call.name)) and not _is_done_by_then(call.node, function):
            code, message = hit
            yield Hit(code, call.node, message + _where(function, project))


def heavy_functions(module: Module, project: Project) -> Iterator[tuple[Function, int]]:
    """Yield the plain functions that compute on the event loop, and the line of the call that does."""
    for call in module.calls:
        function = call.function
        if function is None or function.is_async or function not in project.roles.on_loop or not heavy(call.name):
            continue
        if not {function, project.roles.on_loop[function]} & project.roles.programs:
            yield function, call.node.lineno


def _judged(node: ast.Call, name: str) -> tuple[str, str] | None:
    if name in ANSWERS and not _does_not_wait(node):
        return "LP007", f"`{short(name)}()` blocks until the pool has answered"
    if advice := waits(name):
        return ("LP005", f"`{short(name)}()` blocks: {advice}") if not _does_not_wait(node) else None
    if heavy(name):
        return "LP006", f"`{short(name)}()` computes"
    return None


def _does_not_wait(node: ast.Call) -> bool:
    """Recognise ``shutdown(wait=False)``, ``result(timeout=0)``, ``get(block=False)``."""
    waiting = [keyword.value for keyword in node.keywords if keyword.arg in ("wait", "timeout", "block", "blocking")]
    return any(isinstance(value, ast.Constant) and not value.value and value.value is not None for value in waiting)


def _is_done_by_then(node: ast.Call, function: Function) -> bool:
    """Tell whether the function asks a future whether it is done, or awaits it, before it takes the result."""
    match node.func:
        case ast.Attribute(value=ast.Name(id=variable), attr="result" | "exception"):
            return any(_asks(mention) for mention in mentions.of_variable(variable, function.node))
    return False


def _asks(mention: mentions.Mention) -> bool:
    match mention.parent:
        case ast.Attribute(attr="done") | ast.Call(func=ast.Attribute(attr="wrap_future")):
            return True
    return False


def _where(function: Function, project: Project) -> str:
    origin = project.roles.on_loop[function]
    if origin is function:
        return f" in `async def {function.name}`"
    between = _between(function, origin, project)
    way = f" by way of {' and '.join(f'`{each.name}`' for each in between)}" if between else ""
    return f" in `{function.name}`, which `async def {origin.name}` ({place_of(origin, function)}) calls{way}"


def _between(function: Function, origin: Function, project: Project) -> list[Function]:
    """Return the plain functions by way of which an async one calls another, in order."""
    way: list[Function] = []
    caller = project.roles.callers[function]
    while caller is not origin:
        way.insert(0, caller)
        caller = project.roles.callers[caller]
    return way
