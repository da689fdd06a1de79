"""LP010, LP011: asking for the event loop, asking for the client."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lifepool.cli.check.finding import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Call


def find(module: Module, project: Project) -> Iterator[Hit]:
    """Look for ``get_event_loop`` and ``is_disconnected``."""
    for call in module.calls:
        if call.name == "asyncio.get_event_loop" and not (call.caught or _has_running_loop(call)):
            yield Hit("LP010", call.node, "`asyncio.get_event_loop()` raises where no loop runs")
        elif _asks_for_client(call):
            message = "`is_disconnected()` never turns true here: a BaseHTTPMiddleware is in front of the handlers"
            yield Hit("LP011", call.node, message, behind_middleware=True)


def has_base_http_middleware(module: Module) -> bool:
    """Return whether the module makes one: derives from it, adds it, or has ``@app.middleware("http")``."""
    return any(_is_middleware(node) for node in ast.walk(module.tree))


def _has_running_loop(call: Call) -> bool:
    """Tell whether the call stands in an async function: there it returns the loop that runs."""
    return call.function is not None and call.function.is_async


def _asks_for_client(call: Call) -> bool:
    match call.node.func:
        case ast.Attribute(attr="is_disconnected", value=ast.Name(id=variable)):
            of_request = call.name == "fastapi.Request().is_disconnected"
            return of_request or (not call.name and variable in ("request", "req"))
    return False


def _is_middleware(node: ast.AST) -> bool:
    match node:
        case ast.ClassDef(bases=bases):
            return any(ast.unparse(base).endswith("BaseHTTPMiddleware") for base in bases)
        case ast.Call(func=ast.Attribute(attr="middleware"), args=[ast.Constant(value="http")]):
            return True
        case ast.Call(func=ast.Attribute(attr="add_middleware"), args=[first, *_]):
            return ast.unparse(first).endswith("BaseHTTPMiddleware")
    return False
