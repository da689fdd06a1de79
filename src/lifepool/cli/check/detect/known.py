"""Dotted names of what libraries offer, as `model.names` writes them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool.cli.check.model.scopes import Call, Function

#: Makers of apps that a server serves.
APPS = frozenset({"fastapi.FastAPI", "starlette.applications.Starlette"})
#: Makers of pools of processes that send functions with pickle: they must be importable.
PICKLING_POOLS = frozenset(
    {
        "concurrent.futures.ProcessPoolExecutor",
        "deadpool.Deadpool",
        "lifepool.Pool",
        "lifepool.futures.ProcessPoolExecutor",
        "multiprocessing.Pool",
        "pebble.ProcessPool",
    }
)
#: All makers of processes.
POOLS = PICKLING_POOLS | {
    "joblib.Parallel",
    "loky.ProcessPoolExecutor",
    "mpire.WorkerPool",
    "multiprocessing.Process",
}
#: Makers that a dead worker breaks for good.
BREAKABLE_POOLS = frozenset({"concurrent.futures.ProcessPoolExecutor", "loky.ProcessPoolExecutor"})

EXECUTORS = (
    "concurrent.futures.ProcessPoolExecutor() concurrent.futures.ThreadPoolExecutor() deadpool.Deadpool() "
    "lifepool.futures.ProcessPoolExecutor() loky.ProcessPoolExecutor() loky.get_reusable_executor()"
)

RUN_IN_EXECUTOR = "asyncio.AbstractEventLoop().run_in_executor"


def makes_processes(call: Call) -> bool:
    """Return whether the call makes a pool of processes; some do with certain arguments only."""
    given = {keyword.arg: keyword.value for keyword in call.node.keywords}
    if call.name == "joblib.Parallel":
        jobs = call.node.args[0] if call.node.args else given.get("n_jobs", ast.Constant(1))
        return not isinstance(jobs, ast.Constant) or jobs.value not in (1, None)
    return call.name in POOLS and "backend" not in given


def short(name: str) -> str:
    """Shorten a dotted name for messages: ``ProcessPoolExecutor().submit``."""
    parts = name.split(".")
    classes = [index for index, part in enumerate(parts) if part[:1].isupper()]
    return ".".join(parts[classes[0] :]) if classes else name


def place_of(function: Function, seen_from: Function) -> str:
    """Write where a function is: ``line 5``, or ``app/main.py:5`` seen from another file."""
    home = function.home.module
    line = function.node.lineno
    return f"line {line}" if home is seen_from.home.module else f"{home.path.as_posix()}:{line}"
