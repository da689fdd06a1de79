"""Walk a module's tree once and note scopes, bindings, functions and calls."""

from __future__ import annotations

import ast
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from lifepool.cli.check.model.scopes import (
    Call,
    ClassBinding,
    Comprehension,
    Function,
    FunctionNode,
    Import,
    Scope,
    ScopeNode,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Parts:
    """The result of a walk.

    Attributes:
        root: The module's scope.
        functions: All functions, in order.
        classes: The scopes of all classes.
        calls: All calls.
        imports: All that is imported, by its whole name.
        app_state: What is assigned to ``app.state.x``, for each ``x``.
        request_state: What lifespans yield for ``request.state.x``, for each ``x``.
    """

    root: Scope
    functions: tuple[Function, ...]
    classes: tuple[Scope, ...]
    calls: tuple[Call, ...]
    imports: tuple[Import, ...]
    app_state: dict[str, list[Value]]
    request_state: dict[str, list[Value]]


def walk(tree: ast.Module, path: Path) -> Parts:
    """Note everything that is in a tree.

    A name may be used above the line where it is bound, so nothing is resolved before the walk is over.
    """
    walker = _Walker(tree, path)
    return Parts(
        walker.root,
        tuple(walker.functions),
        tuple(walker.classes),
        tuple(walker.calls),
        tuple(walker.imports),
        walker.app_state,
        walker.request_state,
    )


class _Walker(ast.NodeVisitor):
    def __init__(self, tree: ast.Module, path: Path) -> None:
        self.root = Scope(tree, None, None, path=path)
        self.functions: list[Function] = []
        self.classes: list[Scope] = []
        self.calls: list[Call] = []
        self.imports: list[Import] = []
        self.app_state: dict[str, list[Value]] = {}
        self.request_state: dict[str, list[Value]] = {}
        self._scope = self.root
        self._guarded = False
        self._caught = False
        self._notes: dict[ast.expr, str] = {}  # what is known about a call before it is visited
        for statement in tree.body:
            self.visit(statement)

    @contextmanager
    def _inside(self, scope: Scope) -> Iterator[None]:
        before, self._scope = self._scope, scope
        try:
            yield
        finally:
            self._scope = before

    def _visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    # -- scopes ---------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        function = self._function(node)
        self._scope.bind(node.name, function)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node)

    def _function(self, node: FunctionNode) -> Function:
        arguments = node.args
        self._visit_all([*arguments.defaults, *arguments.kw_defaults])
        function = Function(node, self._scope)
        function.scope = Scope(node, self._scope, function)
        self.functions.append(function)
        injected = _injected(arguments)
        for parameter in function.parameters:
            self._visit_all([parameter.annotation])
            given = Value(self._scope, injected.get(parameter.arg), parameter.annotation)
            function.scope.bind(parameter.arg, given)
        before, self._caught = self._caught, False  # it runs when it is called
        with self._inside(function.scope):
            self._visit_all(node.body if isinstance(node.body, list) else [node.body])
        self._caught = before
        if isinstance(node, ast.Lambda):
            function.gives.append(node.body)
        return function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        scope = self._nested(node)
        self.classes.append(scope)
        self._scope.bind(node.name, ClassBinding(scope))
        with self._inside(scope):
            self._visit_all(node.body)

    def visit_ListComp(self, node: Comprehension) -> None:
        inner = self._scope.inner[node] = self._nested(node)
        with self._inside(inner):
            for generator in node.generators:
                self._bind(generator.target, Value(self._scope, generator.iter, is_item=True))
                self._visit_all([generator.iter, *generator.ifs])
            self._visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def _nested(self, node: ScopeNode) -> Scope:
        return Scope(node, self._scope, self._scope.function)

    # -- bindings -------------------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            variable = alias.asname or name
            self.imports.append(Import(alias.name, self._scope, variable))
            self._scope.bind(variable, Import(name, self._scope, variable))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            if alias.name == "*":
                imported = Import(module, self._scope)
                self.root.stars.append(imported)
            else:
                variable = alias.asname or alias.name
                name = f"{module}.{alias.name}" if node.module else module + alias.name
                imported = Import(name, self._scope, variable)
                self._scope.bind(variable, imported)
            self.imports.append(imported)

    def visit_Global(self, node: ast.Global) -> None:
        self._scope.outer.update(dict.fromkeys(node.names, self.root))

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        for name in node.names:
            if self._scope.parent is not None and (home := self._scope.parent.find(name)):
                self._scope.outer[name] = home

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assign(target, Value(self._scope, node.value))
        self._visit_all([*node.targets, node.value])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._assign(node.target, Value(self._scope, node.value, node.annotation))
        self._visit_all([node.target, node.annotation, node.value])

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._assign(node.target, Value(self._scope, node.value))
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._assign(node.target, Value(self._scope))
        self._visit_all([node.target, node.value])

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._bind(node.target, Value(self._scope, node.iter, is_item=True))
        self.generic_visit(node)

    visit_AsyncFor = visit_For

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self._note(item.context_expr, "entered")
            if item.optional_vars is not None:
                self._bind(item.optional_vars, Value(self._scope, item.context_expr))
        self.generic_visit(node)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        before, self._caught = self._caught, self._caught or any(map(_catches_runtime_errors, node.handlers))
        self._visit_all(node.body)
        self._caught = before
        self._visit_all([*node.handlers, *node.orelse, *node.finalbody])

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._scope.bind(node.name, Value(self._scope))
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self._scope.bind(node.name, Value(self._scope))
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def _assign(self, target: ast.expr, value: Value) -> None:
        self._bind(target, value)
        if not isinstance(target, ast.Name) or target.id in self._scope.outer:
            self._note(value.value, "kept")

    def _bind(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self._scope.bind(name, value)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                if owner := self._scope.enclosing_class:
                    owner.attributes.setdefault(name, []).append(value)
            case ast.Attribute(value=ast.Attribute(attr="state"), attr=name):
                self.app_state.setdefault(name, []).append(value)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._bind(part, Value(self._scope))
            case ast.Starred(value=inner):
                self._bind(inner, Value(self._scope))

    # -- calls ----------------------------------------------------------------------------------------------------

    def _note(self, value: ast.expr | None, note: str) -> None:
        if isinstance(value, ast.Call):
            self._notes[value] = note

    def visit_Await(self, node: ast.Await) -> None:
        self._note(node.value, "awaited")
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        self._note(node.value, "returned")
        self._give(node.value)
        self.generic_visit(node)

    def visit_Yield(self, node: ast.Yield | ast.YieldFrom) -> None:
        if self._scope.function is not None:
            self._scope.function.is_generator = True
        self._note(node.value, "returned")
        self._give(node.value)
        if isinstance(node.value, ast.Dict):
            self._keep_for_requests(node.value)
        self.generic_visit(node)

    visit_YieldFrom = visit_Yield

    def _give(self, value: ast.expr | None) -> None:
        if value is not None and self._scope.function is not None:
            self._scope.function.gives.append(value)

    def _keep_for_requests(self, state: ast.Dict) -> None:
        """Note what a lifespan yields: requests find it in ``request.state``."""
        for key, value in zip(state.keys, state.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                self.request_state.setdefault(key.value, []).append(Value(self._scope, value))

    def visit_Call(self, node: ast.Call) -> None:
        note = self._notes.get(node)
        self.calls.append(
            Call(
                node,
                self._scope,
                self._guarded,
                self._caught,
                awaited=note == "awaited",
                kept=note == "kept",
                returned=note == "returned",
                entered=note == "entered",
            )
        )
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if not _is_main_guard(node.test):
            self.generic_visit(node)
            return
        before, self._guarded = self._guarded, True
        self._visit_all(node.body)
        self._guarded = before
        self._visit_all(node.orelse)


def _catches_runtime_errors(handler: ast.ExceptHandler) -> bool:
    match handler.type:
        case None:
            return True
        case ast.Tuple(elts=types):
            names = [each.id for each in types if isinstance(each, ast.Name)]
        case _:
            names = [handler.type.id] if isinstance(handler.type, ast.Name) else []
    return not {"RuntimeError", "Exception", "BaseException"}.isdisjoint(names)


def _injected(arguments: ast.arguments) -> dict[str, ast.expr]:
    """Return the defaults that FastAPI replaces by what a function gives: ``pool=Depends(get_pool)``."""
    plain = [*arguments.posonlyargs, *arguments.args]
    first = len(plain) - len(arguments.defaults)
    pairs = [
        *zip(plain[first:], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {parameter.arg: value for parameter, value in pairs if _is_injection(value)}


def _is_injection(value: ast.expr | None) -> TypeGuard[ast.Call]:
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in ("Depends", "Security")
    return False


def _is_main_guard(test: ast.expr) -> bool:
    """Recognise ``__name__ == "__main__"``, either way round, alone or as a part of ``and``."""
    match test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            sides = (left, right)
            return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides) and any(
                isinstance(side, ast.Constant) and side.value == "__main__" for side in sides
            )
        case ast.BoolOp(op=ast.And(), values=values):
            return any(map(_is_main_guard, values))
    return False
