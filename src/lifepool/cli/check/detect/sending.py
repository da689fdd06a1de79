"""LP008, LP009, LP013, LP014, LP015: what is sent to a pool, and how."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lifepool.cli.check.detect.holdups import heavy
from lifepool.cli.check.detect.known import PICKLING_POOLS, RUN_IN_EXECUTOR, short
from lifepool.cli.check.finding import Hit
from lifepool.cli.check.model.scopes import Function, Value
from lifepool.cli.check.tables import methods, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.names import Names
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Call, Scope

_EXECUTORS = "concurrent.futures.ProcessPoolExecutor() lifepool.futures.ProcessPoolExecutor() deadpool.Deadpool()"
#: Calls whose first argument is the function.
_SENDING = (
    methods(_EXECUTORS, "submit map")
    | methods("lifepool.Pool()", "run submit map gather task()")
    | methods("multiprocessing.Pool()", "apply apply_async imap imap_unordered map map_async starmap starmap_async")
    | methods("pebble.ProcessPool()", "map schedule submit")
)
#: Calls that give their first argument to a thread.
_TO_THREADS = methods("concurrent.futures.ThreadPoolExecutor()", "submit map") | words(
    "anyio.to_thread.run_sync asyncio.to_thread fastapi.concurrency.run_in_threadpool "
    "starlette.concurrency.run_in_threadpool"
)
#: Decorators whose functions run in workers.
_DECORATORS = methods("lifepool.Pool()", "task task() batch batch() resource resource()")
_TASKS = methods("lifepool.Pool()", "task task()")
_ONE_TASK = methods("lifepool.Pool()", "run submit")
#: Keywords that are lifepool's own; a test compares them with the methods.
OPTIONS = {
    "lifepool.Pool().run": words("timeout retries retry_on priority fair_key on_cancel copy"),
    "lifepool.Pool().submit": words("timeout retries retry_on priority fair_key on_cancel copy"),
    RUN_IN_EXECUTOR: words("executor func"),
}


def find(module: Module, project: Project) -> Iterator[Hit]:
    """Look at every call that hands a function to a pool."""
    for call in module.calls:
        if sent := _sent(call, module.names):
            yield from _function_hits(sent, call, module.names)
        yield from _async_hits(call, module.names)
        yield from _keyword_hits(call)
        if call.name == "asyncio.gather" and any(_fans_out(each, call.scope, module.names) for each in call.node.args):
            yield Hit("LP014", call.node, "a task for each item, all at once, without a bound")
    for function in module.parts.functions:
        yield from _decorator_hits(function, module.names)


def _sent(call: Call, names: Names) -> ast.expr | None:
    """Return the function in a call that sends one."""
    arguments = call.node.args
    if call.name in _SENDING:
        return arguments[0] if arguments else None
    if call.name == RUN_IN_EXECUTOR and len(arguments) > 1:
        executor = names.of(arguments[0], call.scope) or ""
        return arguments[1] if executor.removesuffix("()") in PICKLING_POOLS else None
    if call.name in PICKLING_POOLS:
        return next((keyword.value for keyword in call.node.keywords if keyword.arg == "initializer"), None)
    return None


def sent_functions(module: Module, names: Names) -> Iterator[tuple[Function, int]]:
    """Yield the functions of the project that a module gives to workers, and the line where it does."""
    for call in module.calls:
        sent = _sent(call, names)
        function = None if sent is None else names.function_of(_unwrapped(sent, call.scope, names), call.scope)
        if function is not None:
            yield function, call.node.lineno
    for function in module.parts.functions:
        if any(names.of(decorator, function.home) in _TASKS for decorator in function.decorators):
            yield function, function.node.lineno


def _async_hits(call: Call, names: Names) -> Iterator[Hit]:
    """Look for a coroutine function that is given to a worker or a thread: calling it runs nothing."""
    arguments = call.node.args
    if call.name == RUN_IN_EXECUTOR:
        arguments = arguments[1:]
    elif call.name not in _SENDING and call.name not in _TO_THREADS:
        return
    if arguments and (function := _async_function(_unwrapped(arguments[0], call.scope, names), call.scope, names)):
        yield Hit("LP015", arguments[0], f"`{short(call.name)}` calls `{function.name}`, which returns a coroutine")


def _decorator_hits(function: Function, names: Names) -> Iterator[Hit]:
    for decorator in function.decorators if function.is_async else ():
        maker = names.of(decorator, function.home)
        if maker in _DECORATORS:
            message = f"`{short(maker.removesuffix('()'))}` takes plain functions, and `{function.name}` is async"
            yield Hit("LP015", decorator, message)


def _async_function(node: ast.expr, scope: Scope, names: Names) -> Function | None:
    """Return the coroutine function that is meant; a decorator may make anything of one."""
    function = names.function_of(node, scope)
    return function if function is not None and function.is_async and not function.decorators else None


def _unwrapped(sent: ast.expr, scope: Scope, names: Names) -> ast.expr:
    while isinstance(sent, ast.Call) and sent.args and names.of(sent.func, scope) == "functools.partial":
        sent = sent.args[0]
    return sent


def _function_hits(sent: ast.expr, call: Call, names: Names) -> Iterator[Hit]:
    sent = _unwrapped(sent, call.scope, names)
    if _async_function(sent, call.scope, names):
        return  # LP015 says it
    if what := _without_a_name(sent, call.scope, names):
        yield Hit("LP008", sent, f"{what} can't be sent to another process by `{short(call.name)}`")
    elif isinstance(sent, ast.Attribute) and (owner := _owner(sent, call.scope, names)):
        yield Hit("LP009", sent, f"`{ast.unparse(sent)}` takes the whole `{owner}` along with each task")


def _without_a_name(node: ast.expr, scope: Scope, names: Names) -> str | None:
    """Describe a function that a worker could not import; None for others."""
    binding = node if isinstance(node, ast.Lambda) else names.binding_of(node, scope)
    match binding:
        case ast.Lambda() | Value(value=ast.Lambda()):
            return "a lambda"
        case Function() if binding.is_local:
            return f"the local function `{binding.name}`"
    return None


def _owner(node: ast.Attribute, scope: Scope, names: Names) -> str | None:
    """Return the object that would be pickled with its method: ``self``, or what is known to be large."""
    method = names.function_of(node, scope)
    if method is not None:
        bound = isinstance(node.value, ast.Name) and node.value.id == "self" and not _is_static(method)
        return "self" if bound else None
    is_object = (names.of(node.value, scope) or "").endswith("()")
    return ast.unparse(node.value) if is_object and heavy(names.of(node, scope) or "") else None


def _is_static(method: Function) -> bool:
    return any(isinstance(each, ast.Name) and each.id in ("staticmethod", "classmethod") for each in method.decorators)


def _keyword_hits(call: Call) -> Iterator[Hit]:
    if call.name not in OPTIONS:
        return
    for keyword in call.node.keywords:
        if keyword.arg is not None and keyword.arg not in OPTIONS[call.name]:
            message = f"`{keyword.arg}` is not an option of `{short(call.name)}`, and does not reach the function"
            yield Hit("LP013", call.node, message)


def _fans_out(argument: ast.expr, scope: Scope, names: Names) -> bool:
    """Recognise ``*[pool.run(f, x) for x in items]``."""
    match argument:
        case ast.Starred(
            value=ast.ListComp(elt=ast.Call(func=func), generators=[one])
            | ast.GeneratorExp(elt=ast.Call(func=func), generators=[one])
        ):
            return names.of(func, scope) in _ONE_TASK and not _is_short(one.iter)
    return False


def _is_short(items: ast.expr) -> bool:
    """Tell whether an iterable is written out or counted: as long as the program says, not as the data are."""
    match items:
        case ast.List() | ast.Tuple() | ast.Set() | ast.Call(func=ast.Name(id="range")):
            return True
    return False
