"""What runs when: in each request, on the event loop, once at the start; as far as the modules of a project tell."""

from __future__ import annotations

import ast
from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from lifepool.cli.check.model.names import DEPENDS
from lifepool.cli.check.model.scopes import Function
from lifepool.cli.check.tables import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.names import Names
    from lifepool.cli.check.model.scopes import Call, Scope

#: ``@app.get("/path")`` and its like. FastAPI, Starlette, Flask, Quart, Sanic, Litestar and aiohttp agree on these.
_ROUTE_DECORATORS = words("get post put delete patch head options trace route api_route websocket websocket_route")
#: ``@app.middleware("http")``, ``@app.exception_handler(404)``.
_HOOK_DECORATORS = frozenset({"middleware", "exception_handler", "before_request", "after_request"})
#: Calls whose arguments are handlers: ``app.add_api_route("/path", handler)``, ``Route("/path", handler)``.
_ROUTE_CALLS = words(
    "add_api_route add_route add_websocket_route add_api_websocket_route add_get add_post add_put add_delete "
    "add_patch add_url_rule Route WebSocketRoute APIRoute APIWebSocketRoute"
)
#: What a framework gives to a handler, a dependency or a middleware, and to nothing else.
_REQUESTS = words(
    "aiohttp.web.Request() fastapi.BackgroundTasks() fastapi.Request() fastapi.UploadFile() fastapi.WebSocket() "
    "litestar.Request() sanic.Request() sanic.request.Request() starlette.requests.HTTPConnection() "
    "fastapi.requests.HTTPConnection() starlette.websockets.WebSocket()"
)
#: Classes whose methods of these names answer requests.
_HANDLER_CLASSES = {
    "starlette.middleware.base.BaseHTTPMiddleware": frozenset({"dispatch"}),
    "fastapi.middleware.base.BaseHTTPMiddleware": frozenset({"dispatch"}),
    "starlette.endpoints.HTTPEndpoint": words("get post put delete patch head options"),
    "starlette.endpoints.WebSocketEndpoint": frozenset({"on_connect", "on_receive", "on_disconnect"}),
}
_MAIN_NAMES = frozenset({"main", "_main", "amain", "async_main", "main_async", "cli"})
#: Folders and files whose code is a program of its own: the loop that it holds up serves nobody.
_PROGRAM_FOLDERS = words("cli cli.py commands manage.py scripts test tests conftest.py")
_NEAR = 5  # parts of the path: what is above them is no part of the project
_START_NAMES = frozenset({"lifespan", "_lifespan", "startup", "on_startup", "shutdown", "on_shutdown"})
_START_KEYWORDS = frozenset({"lifespan", "on_startup", "on_shutdown"})
_START_CALLS = frozenset({"add_event_handler", "on_event", "lifespan"})
#: From an async function to a plain one. Each call on the way may depend on a condition that nobody here can see, so
#: the longer the way, the less it says (docs/decisions/0051-check-sees-a-project.md).
_MOST_CALLS = 3
_ONCE_DECORATORS = frozenset({"command", "fixture", "task", "main"})


@dataclass(frozen=True)
class _Mention:
    """One call, and the functions of the project that are in it.

    Attributes:
        awaited: It is the operand of ``await``.
        called: What is called.
        given: What is given to it.
    """

    awaited: bool
    called: Function | None
    given: tuple[Function, ...]


class Roles:
    """What each function of a project is for.

    Args:
        modules: The files to check.
        names: Of their expressions.

    Attributes:
        per_request: Handlers, dependencies, middleware, and what they lead to; each with the handler it came from.
        at_start: Lifespans, and what they await: nothing is served yet, so they may take their time.
        programs: ``main``, commands, tests, and what is in their folders: what runs once, whole.
        once: Programs, what modules call at their own level, and what these lead to.
        on_loop: What runs on the event loop and holds it up: async functions that are neither of the above, and plain
            functions that they call, in three steps at most; each with the async function it came from.
        callers: Which function on the loop calls a plain one of these.
    """

    def __init__(self, modules: Iterable[Module], names: Names) -> None:
        self._names = names
        parts = [module.parts for module in modules]
        self._functions = [function for each in parts for function in each.functions]
        self._classes = [scope for each in parts for scope in each.classes]
        self._calls = [call for each in parts for call in each.calls]
        self._mentions: dict[Function | None, list[_Mention]] = defaultdict(list)
        for call in self._calls:
            if (mention := self._mention(call)).called or mention.given:
                self._mentions[call.function].append(mention)
        self.per_request: dict[Function, Function] = self._led_to([*self._handlers(), *self._handler_methods()])
        self.at_start: set[Function] = set(self._closure(self._starters(), _awaited)) - self.per_request.keys()
        self.programs: set[Function] = set(filter(_is_program, self._functions))
        at_import = chain.from_iterable(map(_mentioned, self._mentions.get(None, ())))
        self.once: set[Function] = set(self._led_to([*self.programs, *at_import, *self.at_start]))
        self.callers: dict[Function, Function] = {}
        self.on_loop: dict[Function, Function] = self._on_loop()

    def _mention(self, call: Call) -> _Mention:
        given = [*call.node.args, *(keyword.value for keyword in call.node.keywords)]
        called = self._names.function_of(call.node.func, call.scope)
        return _Mention(call.awaited, called, tuple(self._functions_of(given, call.scope)))

    def _functions_of(self, nodes: Iterable[ast.expr], scope: Scope) -> Iterator[Function]:
        for node in nodes:
            parts = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
            yield from filter(None, (self._names.function_of(part, scope) for part in parts))

    def _led_to(self, roots: Iterable[Function]) -> dict[Function, Function]:
        return self._closure(roots, _mentioned)

    def _closure(
        self, roots: Iterable[Function], step: Callable[[_Mention], Iterable[Function]]
    ) -> dict[Function, Function]:
        """Return all functions that the roots lead to in steps, each with its root."""
        reached = {root: root for root in roots}
        for function, caller in self._steps(list(reached), step):
            reached[function] = reached[caller]
        return reached

    def _steps(
        self,
        roots: list[Function],
        step: Callable[[_Mention], Iterable[Function]],
        most: int | None = None,
        known: Mapping[Function, int] | None = None,
    ) -> Iterator[tuple[Function, Function]]:
        """Yield each further function with the one that leads there: the nearest first, in ``most`` steps at most."""
        ahead, distances = deque(roots), {**(known or {}), **dict.fromkeys(roots, 0)}
        while ahead:
            here = ahead.popleft()
            if distances[here] == most:
                return
            for function in chain.from_iterable(map(step, self._mentions.get(here, ()))):
                if function not in distances and not _is_cached(function):
                    distances[function] = distances[here] + 1
                    ahead.append(function)
                    yield function, here

    def _on_loop(self) -> dict[Function, Function]:
        """Return the functions that run on the loop; note who calls them. What serves goes before programs."""
        reached: dict[Function, Function] = {}
        able = [function for function in self._functions if self._may_not_block(function)]
        for roots in ([each for each in able if each not in self.programs], able):
            new = [root for root in roots if root not in reached]
            steps = self._steps(new, _called_plainly, _MOST_CALLS, dict.fromkeys(reached, 0))
            reached |= {root: root for root in new}
            for function, caller in steps:
                reached[function] = reached[caller]
                self.callers[function] = caller
        return reached

    def _may_not_block(self, function: Function) -> bool:
        return function.is_async and function not in self.at_start

    def _handlers(self) -> Iterator[Function]:
        for function in self._functions:
            if self._takes_request(function) or _is_asgi_app(function) or any(map(_is_route, function.decorators)):
                yield function
        for call in self._calls:
            if call.name in DEPENDS or _last_part(call.node.func) in _ROUTE_CALLS:
                yield from self._mention(call).given

    def _takes_request(self, function: Function) -> bool:
        types = (self._names.of_type(each.annotation, function.home) for each in function.parameters)
        return not _REQUESTS.isdisjoint(types)

    def _handler_methods(self) -> Iterator[Function]:
        for scope in self._classes:
            bases = scope.node.bases if isinstance(scope.node, ast.ClassDef) else []
            for base in bases:
                for name in _HANDLER_CLASSES.get(self._names.of(base, scope) or "", ()):
                    yield from (each for each in scope.names.get(name, ()) if isinstance(each, Function))

    def _starters(self) -> Iterator[Function]:
        for function in self._functions:
            decorators = {_last_part(decorator) for decorator in function.decorators}
            if function.name in _START_NAMES or decorators & _START_CALLS or _is_lifespan(function, decorators):
                yield function
        for call in self._calls:
            keywords = [each.value for each in call.node.keywords if each.arg in _START_KEYWORDS]
            yield from self._functions_of(keywords, call.scope)
            if _last_part(call.node.func) in _START_CALLS:
                yield from self._mention(call).given


def _mentioned(mention: _Mention) -> Iterable[Function]:
    return mention.given if mention.called is None else (mention.called, *mention.given)


def _awaited(mention: _Mention) -> Iterable[Function]:
    return (mention.called,) if mention.called is not None and mention.awaited else ()


def _called_plainly(mention: _Mention) -> Iterable[Function]:
    called = mention.called
    if called is None or called.is_async or (mention.awaited and called.decorators):
        return ()  # what is awaited was made async by its decorator, which runs it elsewhere
    return (called,)


# -- what a function looks like -----------------------------------------------------------------------------------


def _last_part(node: ast.expr) -> str:
    """Return ``get`` of ``app.get``, ``app.get(...)`` and ``get``."""
    match node:
        case ast.Call(func=func):
            return _last_part(func)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _is_route(decorator: ast.expr) -> bool:
    match decorator:
        case ast.Call(func=ast.Attribute(attr=name)) if name in _HOOK_DECORATORS:
            return True
        case ast.Call(func=ast.Attribute(attr=name), args=args, keywords=keywords) if name in _ROUTE_DECORATORS:
            paths = [*args[:1], *(keyword.value for keyword in keywords if keyword.arg in ("path", "rule"))]
            return any(isinstance(path, ast.Constant | ast.JoinedStr | ast.Name | ast.Attribute) for path in paths)
    return False


def _is_asgi_app(function: Function) -> bool:
    return [each.arg for each in function.parameters][-3:] == ["scope", "receive", "send"]


def _is_lifespan(function: Function, decorators: set[str]) -> bool:
    """Tell whether a function is a context manager around an app."""
    first = [each.arg for each in function.parameters][:1]
    return "asynccontextmanager" in decorators and first in (["app"], ["_app"], ["application"])


def _is_program(function: Function) -> bool:
    if not _PROGRAM_FOLDERS.isdisjoint(function.home.module.path.parts[-_NEAR:]):
        return True
    decorators = {_last_part(decorator) for decorator in function.decorators}
    return (
        function.name in _MAIN_NAMES or function.name.startswith("test_") or not _ONCE_DECORATORS.isdisjoint(decorators)
    )


def _is_cached(function: Function) -> bool:
    """Tell whether a function does its work with the first call only."""
    return any("cache" in _last_part(decorator) for decorator in function.decorators)
