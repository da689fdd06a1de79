"""LP016: what a pool answers with, taken for the answer itself."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lifepool.cli.check.detect import mentions
from lifepool.cli.check.detect.known import short
from lifepool.cli.check.finding import Hit
from lifepool.cli.check.model.scopes import Value
from lifepool.cli.check.tables import methods, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Call, Function

#: They return a coroutine, which runs when it is awaited.
_COROUTINES = methods("lifepool.Pool()", "run gather recycle") | methods("lifepool.jobs.Jobs()", "submit get")
_ITERATORS = frozenset({"lifepool.Pool().map"})
_RESULTS = methods("lifepool.Pool().submit()", "result exception")
#: Decorators that make a coroutine function of a plain one.
_MAKERS = methods("lifepool.Pool()", "task task() batch batch()")
#: Functions that want a value and can do nothing with a coroutine.
_VALUE_WANTED = words(
    "abs all any bool dict enumerate float frozenset int json.dumps len list max min print repr round set sorted str "
    "sum tuple zip"
)
_OF_COROUTINES = words("close send throw cr_frame cr_code cr_running cr_await")


def find(module: Module, project: Project) -> Iterator[Hit]:
    """Look at what is done with what `run`, `gather`, `map` and `submit` return."""
    found = [(call, kind) for call in module.calls if (kind := _kind(call, module))]
    parents = _parents(module.tree) if found else {}
    for call, kind in found:
        what = short(call.name) if call.name else ast.unparse(call.node.func)
        if kind == "coroutine" and not call.awaited and (how := _misused(call, parents, project)):
            yield Hit("LP016", call.node, f"`{what}()` is not awaited: {how}")
        elif kind == "iterator" and (how := _not_iterated(call, parents)):
            yield Hit("LP016", call.node, f"`{what}()` is an async iterator: {how}")
        elif kind == "result" and _never_waited_for(call):
            yield Hit("LP016", call.node, f"`{what}()` does not wait: it raises `InvalidStateError`; await the handle")


def _kind(call: Call, module: Module) -> str:
    if call.name in _COROUTINES:
        return "coroutine"
    if call.name in _ITERATORS:
        return "iterator"
    if call.name in _RESULTS:
        return "result"
    function = None if call.name else module.names.function_of(call.node.func, call.scope)
    return "coroutine" if function is not None and _is_made_async(function, module) else ""


def _is_made_async(function: Function, module: Module) -> bool:
    made = (each.func if isinstance(each, ast.Call) else each for each in function.decorators)
    return any(module.names.of(each, function.home) in _MAKERS for each in made)


def _parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}


# -- coroutines ---------------------------------------------------------------------------------------------------


def _misused(call: Call, parents: dict[ast.AST, ast.AST], project: Project) -> str | None:
    """Say what becomes of a coroutine that is not awaited; None if somebody may still do it."""
    parent = parents[call.node]
    match parent:
        case ast.Expr():
            return "it never runs"
        case ast.Assign(targets=[ast.Name(id=variable)]):
            return (
                f"`{variable}` is a coroutine, not the result" if _is_taken_for_value(variable, call, parents) else None
            )
        case ast.Return() if (function := call.function) and function.is_async:
            handlers = project.roles.per_request
            return "the handler answers with a coroutine" if handlers.get(function) is function else None
    return "a coroutine is used as if it were the result" if _wants_value(call.node, parents) else None


def _is_taken_for_value(variable: str, call: Call, parents: dict[ast.AST, ast.AST]) -> bool:
    if call.function is None or len(call.scope.names.get(variable, ())) != 1:
        return False
    uses = list(mentions.of_variable(variable, call.function.node))
    return bool(uses) and all(_wants_value(use.node, parents) for use in uses)


def _wants_value(node: ast.expr, parents: dict[ast.AST, ast.AST]) -> bool:
    """Tell whether an expression stands where a coroutine makes no sense."""
    match parents[node]:
        case ast.Attribute(attr=name):
            return name not in _OF_COROUTINES
        case ast.Subscript(value=value):
            return value is node
        case ast.BinOp() | ast.UnaryOp() | ast.FormattedValue():
            return True
        case ast.Compare(comparators=others):
            return not any(isinstance(each, ast.Constant) and each.value is None for each in others)
        case ast.For(iter=iterated) | ast.comprehension(iter=iterated, is_async=0):
            return iterated is node
        case ast.Call(func=func, args=arguments) if node in arguments:
            return ast.unparse(func) in _VALUE_WANTED
        case ast.Dict() as answer:
            return isinstance(parents[answer], ast.Return)
    return False


# -- the others ---------------------------------------------------------------------------------------------------


def _not_iterated(call: Call, parents: dict[ast.AST, ast.AST]) -> str | None:
    if call.awaited:
        return "`await` fails; write `async for`, or `await pool.gather(...)` for a list"
    match parents[call.node]:
        case ast.Expr():
            return "nothing runs before somebody iterates over it"
        case ast.For() | ast.comprehension(is_async=0):
            return "write `async for`"
        case ast.Call(func=ast.Name(id="list" | "tuple" | "set" | "sum" | "sorted")):
            return "write `async for`, or `await pool.gather(...)` for a list"
    return None


def _never_waited_for(call: Call) -> bool:
    """Tell whether all that is done with a handle is asking for its result; it may have been awaited elsewhere."""
    match call.node.func:
        case ast.Attribute(value=ast.Call()):
            return True
        case ast.Attribute(value=ast.Name(id=variable)) if call.function is not None:
            bindings = call.scope.names.get(variable, [])
            uses = mentions.of_variable(variable, call.function.node)
            given = len(bindings) == 1 and isinstance(bindings[0], Value) and isinstance(bindings[0].value, ast.Call)
            return given and all(use.attribute in ("result", "exception") for use in uses)
    return False
