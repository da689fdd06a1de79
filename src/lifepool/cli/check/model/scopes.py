"""The plain data of the model: scopes, what names are bound to in them, functions, calls."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
ScopeNode = ast.Module | ast.ClassDef | FunctionNode | Comprehension


@dataclass(frozen=True)
class Import:
    """``import a.b as x``, ``from a import b as x``.

    Attributes:
        name: The dotted name that was imported; a relative import begins with a dot.
        scope: Where that is written.
        variable: The name that it has there; empty for ``*``.
    """

    name: str
    scope: Scope
    variable: str = ""


@dataclass(frozen=True, eq=False)
class Value:
    """``x = value``, ``with value as x``, ``x: annotation = value``, or a parameter.

    Attributes:
        scope: Where that is written.
        value: The expression, if it is known.
        annotation: What the source says about its type; believed more than the value.
        is_item: It is one of the items of ``value``: ``for x in value``.
    """

    scope: Scope
    value: ast.expr | None = None
    annotation: ast.expr | None = None
    is_item: bool = False


@dataclass(eq=False, repr=False)
class Scope:
    """A module, a class, a function or a comprehension.

    Attributes:
        node: Where it begins.
        parent: The scope around it; None for the module.
        function: The function it belongs to: itself, or the one around it; None at the module's level.
        names: What each name is bound to here, in order.
        attributes: Of a class: what is assigned to ``self.x`` in its methods.
        outer: Where names that are declared ``global`` or ``nonlocal`` belong.
        inner: The scopes of comprehensions that are written here.
        stars: Of a module: what ``from x import *`` names.
        path: Of a module: its file.
    """

    node: ScopeNode
    parent: Scope | None
    function: Function | None
    names: dict[str, list[Binding]] = field(default_factory=dict)
    attributes: dict[str, list[Binding]] = field(default_factory=dict)
    outer: dict[str, Scope] = field(default_factory=dict)
    inner: dict[ast.expr, Scope] = field(default_factory=dict)
    stars: list[Import] = field(default_factory=list)
    path: Path = Path()

    def bind(self, name: str, binding: Binding) -> None:
        """Note that a name is bound here, or where it was declared to be."""
        self.outer.get(name, self).names.setdefault(name, []).append(binding)

    def find(self, name: str) -> Scope | None:
        """Return the scope that a name belongs to, seen from here."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names and (scope is self or not isinstance(scope.node, ast.ClassDef)):
                return scope
            scope = scope.parent
        return None

    @property
    def module(self) -> Scope:
        """Return the scope of the module that this is part of."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def enclosing_class(self) -> Scope | None:
        """Return the class whose method this scope is part of."""
        scope: Scope | None = self
        while scope is not None and not isinstance(scope.node, ast.ClassDef):
            scope = scope.parent
        return scope


@dataclass(eq=False, repr=False)
class Function:
    """A function, method or lambda.

    Attributes:
        node: Its definition.
        home: The scope that it is defined in.
        scope: Its own scope.
        is_generator: There is a ``yield`` in it.
        gives: What it returns or yields.
    """

    node: FunctionNode
    home: Scope
    scope: Scope = field(init=False)
    is_generator: bool = False
    gives: list[ast.expr] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the name after ``def``."""
        return "lambda" if isinstance(self.node, ast.Lambda) else self.node.name

    @property
    def is_async(self) -> bool:
        """Whether it is an ``async def``."""
        return isinstance(self.node, ast.AsyncFunctionDef)

    @property
    def decorators(self) -> list[ast.expr]:
        """Return the decorators, from the top."""
        return [] if isinstance(self.node, ast.Lambda) else self.node.decorator_list

    @property
    def is_local(self) -> bool:
        """Whether it is made anew each time another function runs: nobody can import it."""
        return self.home.function is not None or isinstance(self.node, ast.Lambda)

    @property
    def parameters(self) -> list[ast.arg]:
        """Return all parameters, in order of kind."""
        arguments = self.node.args
        extra = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
        return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]


@dataclass(eq=False)
class ClassBinding:
    """``class X``.

    Attributes:
        scope: Of its body.
    """

    scope: Scope


@dataclass(frozen=True)
class ModuleBinding:
    """``import x``, where ``x`` is a module of the project.

    Attributes:
        path: Its file, or the folder of a package that has no ``__init__.py``.
        root: Its scope; None for such a folder.
    """

    path: Path
    root: Scope | None


@dataclass(eq=False)
class Call:
    """One call.

    Attributes:
        node: The call.
        scope: Where it stands.
        guarded: It is under ``if __name__ == "__main__":``.
        caught: A ``RuntimeError`` of it is caught right there.
        awaited: It is the operand of ``await``.
        kept: What it returns is put into a global, an attribute or an item, and so outlives the function.
        returned: What it returns is returned or yielded.
        entered: A `with` enters what it returns.
        name: The dotted name of what is called, as `Names` writes it; empty if it is not known.
    """

    node: ast.Call
    scope: Scope
    guarded: bool
    caught: bool = False
    awaited: bool = False
    kept: bool = False
    returned: bool = False
    entered: bool = False
    name: str = ""

    @property
    def function(self) -> Function | None:
        """Return the function that the call is in."""
        return self.scope.function


Binding = Import | Value | Function | ClassBinding | ModuleBinding
