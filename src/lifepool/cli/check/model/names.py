"""What an expression is, as one dotted name, whatever the module calls it.

``import time as t; t.sleep`` is ``time.sleep``. What a call returns has the callee's name and ``()``:
``concurrent.futures.ProcessPoolExecutor().submit().result``. A parameter or variable that is annotated with a class is
what a call of that class returns. None: it is not known, and no rule may guess.
"""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from lifepool.cli.check.model.scopes import Function, Import, Value

if TYPE_CHECKING:
    from lifepool.cli.check.model.scopes import Binding, Scope

_LOOP = "asyncio.AbstractEventLoop()"

#: Names for the same thing, looked up each time that a name grows by a part.
_SAME = {
    "asyncio.get_event_loop()": _LOOP,
    "asyncio.get_running_loop()": _LOOP,
    "asyncio.new_event_loop()": _LOOP,
    "asyncio.events.get_event_loop": "asyncio.get_event_loop",
    "concurrent.futures.process.ProcessPoolExecutor": "concurrent.futures.ProcessPoolExecutor",
    "concurrent.futures.thread.ThreadPoolExecutor": "concurrent.futures.ThreadPoolExecutor",
    "fastapi.requests.Request": "fastapi.Request",
    "starlette.requests.Request": "fastapi.Request",
    "lifepool.PoolDep()": "lifepool.Pool()",
    "lifepool.integrations.fastapi.PoolDep()": "lifepool.Pool()",
    "lifepool.pool.Pool": "lifepool.Pool",
    "multiprocess.Pool": "multiprocessing.Pool",
    "multiprocessing.context.Process": "multiprocessing.Process",
    "multiprocessing.get_context()": "multiprocessing",
    "multiprocessing.pool.Pool": "multiprocessing.Pool",
    "torch.multiprocessing": "multiprocessing",
    # Methods of a picture that return a picture.
    **{f"PIL.Image.open().{name}()": "PIL.Image.open()" for name in ("convert", "crop", "filter", "resize", "rotate")},
}
#: Calls with this keyword give something else: `Pool(backend="inline")` has no processes of its own.
_CHANGED_BY = {"lifepool.Pool": "backend"}
#: Generic types that stand for what is in their brackets.
_TRANSPARENT = frozenset({"typing.Annotated", "typing.Optional", "typing_extensions.Annotated"})


class Names:
    """Dotted names of a module's expressions.

    What a binding's name is, is worked out once: names lead to bindings, and these to names again.
    """

    def __init__(self) -> None:
        self._known: dict[Value, str | None] = {}
        self._open: set[Value] = set()  # being looked up: ``x = x.resize()`` must not go round in circles

    def of(self, node: ast.expr | None, scope: Scope) -> str | None:
        """Return the name of an expression in ``scope``."""
        match node:
            case ast.Name(id=name):
                return self._of_variable(name, scope)
            case ast.Attribute(value=ast.Name(id="self"), attr=attr) if owner := scope.enclosing_class:
                return self._the_one(owner.attributes.get(attr) or owner.names.get(attr, []))
            case ast.Attribute(value=value, attr=attr):
                return _grown(self.of(value, scope), f".{attr}")
            case ast.Call():
                return self._of_result(node, scope)
            case ast.BoolOp(values=values):
                return self._first(values, scope)
            case ast.IfExp(body=body, orelse=orelse):
                return self._first([body, orelse], scope)
            case ast.NamedExpr(value=value):
                return self.of(value, scope)
        return None

    def of_type(self, node: ast.expr | None, scope: Scope) -> str | None:
        """Return the name of an annotation's instance, so with ``()``."""
        match node:
            case ast.Name() | ast.Attribute():
                match binding_of(node, scope):
                    case Value(value=ast.Subscript() as alias, scope=home):  # PoolDep = Annotated[Pool, ...]
                        return self.of_type(alias, home)
                return _grown(self.of(node, scope), "()")
            case ast.Constant(value=str(text)):
                return self.of_type(_parsed(text), scope)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self.of_type(left, scope) or self.of_type(right, scope)
            case ast.Subscript(value=outer, slice=inner) if self.of(outer, scope) in _TRANSPARENT:
                return self.of_type(inner.elts[0] if isinstance(inner, ast.Tuple) else inner, scope)
        return None

    def _first(self, nodes: list[ast.expr], scope: Scope) -> str | None:
        return next(filter(None, (self.of(node, scope) for node in nodes)), None)

    def _of_variable(self, name: str, scope: Scope) -> str | None:
        home = scope.find(name)
        if home is None:
            return name if hasattr(builtins, name) else None
        return self._the_one(home.names[name])

    def _the_one(self, bindings: list[Binding]) -> str | None:
        """Return the name on which all bindings agree; ``x = None`` beside another says nothing."""
        names = {self._of_binding(each) for each in bindings if each not in self._open and not _is_none(each)}
        return names.pop() if len(names) == 1 else None

    def _of_binding(self, binding: Binding) -> str | None:
        match binding:
            case Import(name=name):
                return _SAME.get(name, name)
            case Value():
                if binding not in self._known:
                    self._open.add(binding)
                    annotated = self.of_type(binding.annotation, binding.scope)
                    self._known[binding] = annotated or self.of(binding.value, binding.scope)
                    self._open.discard(binding)
                return self._known[binding]
        return None

    def _of_result(self, node: ast.Call, scope: Scope) -> str | None:
        callee = self.of(node.func, scope)
        if callee is None:
            function = function_of(node.func, scope)
            returns = None if function is None or isinstance(function.node, ast.Lambda) else function.node.returns
            return self.of_type(returns, scope)
        changed = any(keyword.arg == _CHANGED_BY.get(callee, "") for keyword in node.keywords)
        return None if changed else _grown(callee, "()")


def binding_of(node: ast.expr, scope: Scope) -> Binding | None:
    """Return what a name, or ``self.name``, is bound to, if that is one thing only."""
    match node:
        case ast.Name(id=name):
            home = scope.find(name)
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
            home = scope.enclosing_class
        case _:
            return None
    bindings = home.names.get(name, []) if home is not None else []
    return bindings[0] if len(bindings) == 1 else None


def function_of(node: ast.expr, scope: Scope) -> Function | None:
    """Return the function of this module that an expression refers to, methods of ``self`` included."""
    binding = binding_of(node, scope)
    return binding if isinstance(binding, Function) else None


def _grown(name: str | None, part: str) -> str | None:
    return None if name is None else _SAME.get(name + part, name + part)


def _is_none(binding: Binding) -> bool:
    match binding:
        case Value(value=ast.Constant(value=None), annotation=None):
            return True
    return False


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
