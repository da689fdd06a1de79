"""LP004: servers and processes that an import starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.cli.check.detect.known import makes_processes, short
from lifepool.cli.check.finding import Hit
from lifepool.cli.check.tables import methods, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Call, Function

SERVERS = words(
    "aiohttp.web.run_app flask.Flask().run granian.Granian().serve hypercorn.run.run quart.Quart().run "
    "sanic.Sanic().run uvicorn.Server().run uvicorn.main.run uvicorn.run waitress.serve"
)
#: These start processes at once, or with the first task.
PROCESSES = (
    words("multiprocessing.Manager multiprocessing.Pool multiprocessing.Process().start")
    | methods("concurrent.futures.ProcessPoolExecutor() lifepool.futures.ProcessPoolExecutor()", "submit map")
    | methods("pebble.ProcessPool()", "schedule map")
)
#: These matter in a module that makes processes as well.
LOOPS = words("anyio.run asyncio.Runner().run asyncio.run trio.run uvloop.run") | methods(
    "asyncio.AbstractEventLoop()", "run_forever run_until_complete"
)


def find(module: Module, project: Project) -> Iterator[Hit]:
    """Look at what runs when the module is imported."""
    if module.path.name == "__main__.py":
        return  # the standard library does not import it in workers
    starts = SERVERS | PROCESSES | (LOOPS if _makes_processes(module) else frozenset())
    ran = _run_by_import(module)
    for call in module.calls:
        at_import = not call.guarded if call.function is None else call.function in ran
        if at_import and call.name in starts:
            yield Hit("LP004", call.node, f"importing this module runs `{short(call.name)}`{_by_way_of(call)}")


def _makes_processes(module: Module) -> bool:
    return "lifepool" in module.imports or any(map(makes_processes, module.calls))


def _by_way_of(call: Call) -> str:
    return "" if call.function is None else f", since `{call.function.name}()` is called unguarded"


def _run_by_import(module: Module) -> set[Function]:
    """Return what the module calls at its own level, outside of the guard, and plain functions that these call."""
    ran: set[Function] = set()
    while True:
        new = {
            function
            for call in module.calls
            if (call.function in ran if call.function else not call.guarded)
            and (function := module.names.function_of(call.node.func, call.scope))
            and not function.is_async
        }
        if new <= ran:
            return ran
        ran |= new
