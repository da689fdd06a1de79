"""LP005, LP006, LP007: calls that block the event loop."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lifepool.cli.check.detect.holdups import ANSWERS, always_wrong, heavy, waits
from lifepool.cli.check.detect.known import short
from lifepool.cli.check.finding import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.scopes import Function


def find(module: Module) -> Iterator[Hit]:
    """Look at the calls that run on the event loop."""
    for call in module.calls:
        function = call.function
        if call.awaited or function is None or function not in module.roles.on_loop:
            continue
        if function in module.roles.programs and not always_wrong(call.name):
            continue
        if hit := _judged(call.node, call.name):
            code, message = hit
            yield Hit(code, call.node, message + _where(function, module))


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


def _where(function: Function, module: Module) -> str:
    origin = module.roles.on_loop[function]
    if origin is function:
        return f" in `async def {function.name}`"
    return f" in `{function.name}`, which `async def {origin.name}` (line {origin.node.lineno}) calls"
