"""What an expression is, as one dotted name, whatever a module calls it, and wherever it comes from.

``import time as t; t.sleep`` is ``time.sleep``. What a call returns has the callee's name and ``()``:
``concurrent.futures.ProcessPoolExecutor().submit().result``. A parameter or variable that is annotated with a class is
what a call of that class returns. None: it is not known, and no rule may guess.

Names that are imported from the project are followed to where they are bound. Its own classes are called
``module:Class``, which is the name of nothing else.
"""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from lifepool.cli.check.model.same import same
from lifepool.cli.check.model.scopes import ClassBinding, Function, Import, ModuleBinding, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lifepool.cli.check.model.scopes import Binding, Scope
    from lifepool.cli.check.model.sources import Sources

#: Calls with this keyword give something else: `Pool(backend="inline")` has no processes of its own.
_CHANGED_BY = {"lifepool.Pool": "backend"}
#: Generic types that stand for what is in their brackets.
_TRANSPARENT = frozenset({"typing.Annotated", "typing.Optional", "typing_extensions.Annotated"})
#: Calls that stand for what their first argument gives.
DEPENDS = frozenset(
    {"fastapi.Depends", "fastapi.Security", "fastapi.params.Depends", "fastapi.param_functions.Depends"}
)
_MANAGERS = frozenset({"asynccontextmanager", "contextmanager"})


_Seen = tuple["Binding | None", "str | None"]


class Names:
    """Dotted names of a project's expressions.

    What a binding's name is, is worked out once: names lead to bindings, and these to names again.

    Args:
        sources: The modules.
        app_state: What is assigned to ``app.state.x`` in them, for each ``x``.
        request_state: What lifespans yield for ``request.state.x``, for each ``x``.
    """

    def __init__(
        self,
        sources: Sources,
        app_state: Mapping[str, list[Value]],
        request_state: Mapping[str, list[Value]],
    ) -> None:
        self._sources = sources
        self._app_state = app_state
        self._request_state = request_state
        self._known: dict[Value, str | None] = {}
        self._open: set[Value | Function | Import] = set()  # being looked up: ``x = x.resize()`` must not go in circles
        self._followed: dict[Import, Binding | None] = {}
        self._classes: dict[str, ClassBinding] = {}  # by the names of their instances

    # -- names --------------------------------------------------------------------------------------------------------

    def of(self, node: ast.expr | None, scope: Scope) -> str | None:
        """Return the name of an expression in ``scope``."""
        return None if node is None else self._look(node, scope)[1]

    def binding_of(self, node: ast.expr, scope: Scope) -> Binding | None:
        """Return what a name, ``self.name`` or ``module.name`` is bound to in the project, if it is one thing only."""
        return self._look(node, scope)[0]

    def function_of(self, node: ast.expr, scope: Scope) -> Function | None:
        """Return the function of the project that an expression refers to, methods of its objects included."""
        binding = self.binding_of(node, scope)
        return binding if isinstance(binding, Function) else None

    def of_type(self, node: ast.expr | None, scope: Scope) -> str | None:
        """Return the name of an annotation's instance, so with ``()``."""
        match node:
            case ast.Name() | ast.Attribute():
                match self.binding_of(node, scope):
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

    def _look(self, node: ast.expr, scope: Scope) -> _Seen:
        """Return both, in one walk along a chain: each link is looked at once."""
        match node:
            case ast.Name(id=name):
                return self._variable(name, scope)
            case ast.Attribute():
                return self._attribute(node, scope)
            case ast.Call():
                return None, self._of_result(node, scope)
            case ast.Await(value=ast.Call(func=func)):
                function = self.function_of(func, scope)
                return None, self._given_by(function) if function is not None and _is_coroutine(function) else None
            case ast.BoolOp(values=values):
                return None, self._first(values, scope)
            case ast.IfExp(body=body, orelse=orelse):
                return None, self._first([body, orelse], scope)
            case ast.NamedExpr(value=value):
                return None, self.of(value, scope)
        return None, None

    def _first(self, nodes: list[ast.expr], scope: Scope) -> str | None:
        return next(filter(None, (self.of(node, scope) for node in nodes)), None)

    def _variable(self, name: str, scope: Scope) -> _Seen:
        home = scope.find(name)
        if home is not None:
            return self._seen(home.names[name])
        if starred := self._from_stars(scope.module, name):
            return starred, self._of_binding(starred)
        return None, name if hasattr(builtins, name) else None

    def _attribute(self, node: ast.Attribute, scope: Scope) -> _Seen:
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") and (own := scope.enclosing_class):
            return self._in_class(own, node.attr)
        binding, name = self._look(node.value, scope)
        if state := self._state(node, name):
            return self._seen(state)
        if isinstance(binding, ModuleBinding):
            found = self._member(binding, node.attr)
            return found, self._of_binding(found) if found else _grown(name, f".{node.attr}")
        owner = binding if isinstance(binding, ClassBinding) else self._classes.get(name or "")
        return self._in_class(owner.scope, node.attr) if owner else (None, _grown(name, f".{node.attr}"))

    def _in_class(self, owner: Scope, name: str) -> _Seen:
        return self._only(self._of_class(owner, name, assigned=False)), self._the_one(self._of_class(owner, name))

    def _seen(self, bindings: Sequence[Binding]) -> _Seen:
        return self._only(bindings), self._the_one(bindings)

    def _the_one(self, bindings: Sequence[Binding]) -> str | None:
        """Return the name on which all bindings agree; ``x = None`` beside another says nothing."""
        names = {self._of_binding(each) for each in bindings if each not in self._open and not _is_none(each)}
        return names.pop() if len(names) == 1 else None

    def _of_binding(self, binding: Binding) -> str | None:
        match binding:
            case Import(name=name):
                match self.follow(binding):
                    case None | ModuleBinding(root=None):  # an installed package goes before such a folder
                        return same(name)
                    case followed:
                        return self._of_binding(followed)
            case ModuleBinding(path=path):
                return f"{path}:"
            case ClassBinding(scope=scope):
                return self._of_own_class(binding, scope)
            case Value():
                return self._of_value(binding)
        return None

    def _of_own_class(self, binding: ClassBinding, scope: Scope) -> str:
        name = f"{scope.module.path}:{getattr(scope.node, 'name', '')}:{getattr(scope.node, 'lineno', 0)}"
        self._classes[f"{name}()"] = binding
        return name

    def _of_value(self, value: Value) -> str | None:
        if value not in self._known:
            self._open.add(value)
            known = self.of_type(value.annotation, value.scope)
            if known is None:
                known = self._of_item(value.value, value.scope) if value.is_item else self.of(value.value, value.scope)
            self._known[value] = known
            self._open.discard(value)
        return self._known[value]

    def _of_item(self, node: ast.expr | None, scope: Scope) -> str | None:
        """Return the name of what is in a list that is written out or comprehended, here or where its name is bound."""
        match node:
            case ast.ListComp(elt=item) | ast.SetComp(elt=item) | ast.GeneratorExp(elt=item):
                return self.of(item, scope.inner.get(node, scope))
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items) if items:
                names = {self.of(item, scope) for item in items}
                return names.pop() if len(names) == 1 else None
            case ast.Name():
                match self.binding_of(node, scope):
                    case Value(is_item=False, annotation=None) as value if value not in self._open:
                        return self._of_item(value.value, value.scope)
        return None

    # -- calls --------------------------------------------------------------------------------------------------------

    def _of_result(self, node: ast.Call, scope: Scope) -> str | None:
        function, callee = self._look(node.func, scope)
        if isinstance(function, Function):
            return None if _is_coroutine(function) else self._given_by(function)
        if callee in DEPENDS and node.args:
            return self._injected(node.args[0], scope)
        changed = any(keyword.arg == _CHANGED_BY.get(callee or "", "") for keyword in node.keywords)
        return None if changed else _grown(callee, "()")

    def _injected(self, provider: ast.expr, scope: Scope) -> str | None:
        binding, name = self._look(provider, scope)
        return self._given_by(binding) if isinstance(binding, Function) else _grown(name, "()")

    def _given_by(self, function: Function) -> str | None:
        """Return the name of what a function of the project returns or yields."""
        if isinstance(function.node, ast.Lambda) or function.node.returns is None or function.is_generator:
            return self._inferred(function)
        return self.of_type(function.node.returns, function.home)

    def _inferred(self, function: Function) -> str | None:
        if function in self._open:
            return None
        self._open.add(function)
        names = {self.of(each, function.scope) for each in function.gives if not _is_none_node(each)}
        self._open.discard(function)
        return names.pop() if len(names) == 1 else None

    # -- state of apps and requests -----------------------------------------------------------------------------------

    def _state(self, node: ast.Attribute, name: str | None) -> list[Value] | None:
        """Return what ``app.state.x`` or ``request.state.x`` is bound to; ``name`` is that of ``app.state``."""
        match node.value:
            case ast.Attribute(attr="state", value=ast.Attribute(attr="app") | ast.Name(id="app" | "application")):
                return self._app_state.get(node.attr)
            case ast.Attribute(attr="state") if name == "fastapi.FastAPI().state":
                return self._app_state.get(node.attr)
            case ast.Attribute(attr="state", value=ast.Name(id="request" | "websocket")):
                return self._request_state.get(node.attr)
        return None

    # -- bindings -----------------------------------------------------------------------------------------------------

    def _only(self, bindings: Iterable[Binding]) -> Binding | None:
        """Return the one thing that names were bound to; an import stands for what it imports."""
        said = [each for each in bindings if not _is_none(each)]
        found = {self.follow(each) or each if isinstance(each, Import) else each for each in said}
        return found.pop() if len(found) == 1 else None

    def follow(self, imported: Import) -> Binding | None:
        """Return what is imported from the project; None: it is from elsewhere, or not found."""
        if imported not in self._followed:
            if imported in self._open:
                return None
            self._open.add(imported)
            self._followed[imported] = self._look_up(imported)
            self._open.discard(imported)
        return self._followed[imported]

    def _look_up(self, imported: Import) -> Binding | None:
        dots = imported.name[: len(imported.name) - len(imported.name.lstrip("."))]
        package, _, name = imported.name[len(dots) :].rpartition(".")
        importer = imported.scope.module.path
        if not package and not dots:
            return self._sources.imported(name, importer)
        module = self._sources.imported(dots + package, importer)
        return None if module is None else self._member(module, name)

    def _member(self, module: ModuleBinding, name: str) -> Binding | None:
        """Return what a module or package of the project calls ``name``."""
        if module.root is not None and name in module.root.names:
            found = self._only(module.root.names[name])
            if not isinstance(found, Import) or found not in self._open:  # `from . import x`: the submodule
                return found
        inner = self._sources.submodule(module, name)
        return self._from_stars(module.root, name) if inner is None and module.root is not None else inner

    def _from_stars(self, root: Scope, name: str) -> Binding | None:
        """Return what ``from x import *`` brings in under a name."""
        for star in root.stars:
            if star in self._open or not (module := self._sources.imported(star.name, root.path)):
                continue
            self._open.add(star)
            found = self._member(module, name)
            self._open.discard(star)
            if found is not None:
                return found
        return None

    def _of_class(self, owner: Scope, name: str, *, assigned: bool = True) -> list[Binding]:
        """Return what a class or the nearest of its bases in the project binds to a name."""
        for scope in self._line(owner, 0):
            found = (scope.attributes.get(name) if assigned else None) or scope.names.get(name)
            if found:
                return found
        return []

    def _line(self, owner: Scope, depth: int) -> Iterator[Scope]:
        """Yield a class and its bases in the project, depth first."""
        yield owner
        for base in owner.node.bases if isinstance(owner.node, ast.ClassDef) and depth < 8 else ():
            binding = self.binding_of(base, owner.parent or owner)
            if isinstance(binding, ClassBinding) and binding.scope is not owner:
                yield from self._line(binding.scope, depth + 1)


def _grown(name: str | None, part: str) -> str | None:
    return None if name is None else same(name + part)


def _is_coroutine(function: Function) -> bool:
    return function.is_async and not function.is_generator


def _is_none(binding: Binding) -> bool:
    match binding:
        case Value(value=ast.Constant(value=None), annotation=None):
            return True
    return False


def _is_none_node(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
