"""Examine the user's own pool: find it in what `module:pool` names, check its settings, start one worker.

Runs in a process of its own (``lifepool.cli.isolation``): the user's module may hang, exit or start a server.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import time
import traceback
from typing import TYPE_CHECKING, Any

from lifepool._host.cpus import CpuBudget, cpu_budget
from lifepool.cli.doctor import selftest_tasks
from lifepool.cli.doctor.findings import Finding, describe_error, fail, ok, warn
from lifepool.cli.doctor.machine import Machine, memory_limit
from lifepool.cli.doctor.selftest import plain_pool
from lifepool.cli.importing import NotFound, import_target
from lifepool.cli.units import size_text, time_text
from lifepool.config import PoolConfig, describe_settings
from lifepool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TYPICAL_TASK_S = 0.02
_NAME_THE_POOL = "name the pool itself, as in main:pool"


def examine(request: dict[str, Any]) -> dict[str, Any]:
    """Import the target, find its pool, check it; findings as JSON.

    Args:
        request: ``target`` as in ``module:pool``, ``timeout`` in seconds for all of it, and ``is_factory``: whether
            the target is a function that makes the app.
    """
    deadline = time.monotonic() + request["timeout"]
    findings = _findings(request["target"], deadline, is_factory=request.get("is_factory", False))
    return {"findings": [dataclasses.asdict(finding) for finding in findings]}


def _made_by(factory: Any, target: str) -> object:
    """Call a function that makes an app.

    Raises:
        NotFound: If it is none, or fails.
    """
    try:
        return factory()
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{target}() failed: {type(error).__name__}: {error} ({last.filename}:{last.lineno})"
        raise NotFound(message, "the server calls it without arguments, as `uvicorn --factory` does") from None


def _findings(target: str, deadline: float, *, is_factory: bool) -> Iterator[Finding]:
    try:
        found = import_target(target)
        if is_factory:
            found, target = _made_by(found, target), f"{target}()"
        pools = find_pools(found, target)
    except NotFound as error:
        yield fail("import", str(error), error.hint)
        return
    names = " and ".join(map(repr, pools))
    yield ok("import", f"{target} is {names}" if found is pools[0] else f"{target} is an app around {names}")
    budget = cpu_budget()
    if len(pools) > 1:
        yield check_together(pools, budget)
    for number, pool in enumerate(pools):
        findings = [*check_config(pool.config, budget, Machine())]
        findings.append(asyncio.run(check_start(pool.config, max(1.0, deadline - time.monotonic()))))
        for finding in findings:
            seen = finding.found if len(pools) == 1 else f"{_label(pools, number)}: {finding.found}"
            yield dataclasses.replace(finding, found=seen)


def _label(pools: Sequence[Pool], number: int) -> str:
    """Return the pool's name, with a number if others have the same."""
    name = pools[number].config.name
    return name if sum(pool.config.name == name for pool in pools) == 1 else f"{name} {number + 1}"


# --- finding it ---------------------------------------------------------------------------------------------------


def find_pools(found: object, target: str) -> list[Pool]:
    """Find the pool that an object is, or those that an app's lifespan or state holds.

    The app is not started: only what can be seen from outside is looked at.

    Raises:
        NotFound: If there is none.
    """
    if isinstance(found, Pool):
        return [found]
    state = getattr(getattr(found, "state", None), "_state", {})
    lifespan = getattr(getattr(found, "router", None), "lifespan_context", None)
    if lifespan is None:
        hint = "if it makes the app, add --factory" if inspect.isfunction(found) else _NAME_THE_POOL
        raise NotFound(f"{target} is a {type(found).__name__}, neither a Pool nor a FastAPI app", hint)
    installed = getattr(state.get("lifepool"), "pools", [])
    pools = [*installed, *(value for value in state.values() if isinstance(value, Pool)), *_pools_in(lifespan, 0)]
    if not pools:
        raise NotFound(f"no pool was found in the lifespan or the state of {target}", _NAME_THE_POOL)
    return list(dict.fromkeys(pools))


def _pools_in(function: Any, depth: int) -> Iterator[Pool]:
    """Yield the pools that a lifespan function belongs to, encloses, or names."""
    if isinstance(function, Pool):
        yield function
        return
    owner = getattr(function, "__self__", None)
    if isinstance(owner, Pool):
        yield owner
        return
    if depth > 4:  # FastAPI and contextlib wrap a lifespan two or three times
        return
    inner = getattr(function, "__wrapped__", None)
    enclosed = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _is_filled(cell)]
    code, module = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    named = [module[name] for name in (code.co_names if code else ()) if isinstance(module.get(name), Pool)]
    for each in (inner, *enclosed, *named):
        if callable(each) or isinstance(each, Pool):
            yield from _pools_in(each, depth + 1)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


# --- its settings -------------------------------------------------------------------------------------------------


def check_config(config: PoolConfig, budget: CpuBudget, machine: Machine) -> Iterator[Finding]:
    """Report settings that fit neither the machine nor each other."""
    yield _workers(config, budget)
    yield _waiting(config)
    yield _memory(config, machine)


def check_together(pools: Sequence[Pool], budget: CpuBudget) -> Finding:
    """Tell whether the pools of one app have more workers than there are CPUs, all together."""
    claims = " + ".join(f"{pool.max_workers} ({pool.config.name})" for pool in pools)
    total = sum(pool.max_workers for pool in pools)
    seen = f"{len(pools)} pools have {total} workers: {claims}; there are CPUs for {budget.workers}"
    # One worker each is the least there can be.
    if total > max(budget.workers, len(pools)):
        fix = "install(app, one, other) shares the CPUs among pools without max_workers; or give each its max_workers"
        return warn("pools", seen, fix)
    return ok("pools", seen)


def _workers(config: PoolConfig, budget: CpuBudget) -> Finding:
    seen = f"{config.max_workers} from {config.max_workers_source}"
    if config.max_workers > max(1, budget.cpus):
        fix = "leave max_workers out unless tasks wait for files or networks: more workers than CPUs only take turns"
        return warn("max_workers", f"{seen}; there are {budget.cpus:g} CPUs", fix)
    return ok("max_workers", f"{seen}; there are {budget.cpus:g} CPUs")


def _waiting(config: PoolConfig) -> Finding:
    queue = config.max_queue
    if config.timeout is None:
        wait = queue * _TYPICAL_TASK_S / config.max_workers
        seen = f"none: a task that hangs keeps its worker; of {queue} waiting ones of 20 ms the last waits {wait:.3g} s"
        return warn(
            "timeout", seen, "set timeout= to what a client waits for; then tasks that would be late are refused"
        )
    most = config.timeout * config.max_workers / queue
    seen = f"{config.timeout:g} s with waiting; a full queue of {queue} is done in time at {time_text(most)} a task"
    return ok("timeout", seen)


def _memory(config: PoolConfig, machine: Machine) -> Finding:
    limit, source = memory_limit(machine)
    if config.max_worker_memory is None:
        return ok("memory", "max_worker_memory is not set: a worker that grows is kept")
    together = config.max_worker_memory * config.max_workers
    seen = f"{config.max_workers} x {size_text(config.max_worker_memory)} = {size_text(together)}"
    if limit is not None and together > limit:
        seen += f", more than {size_text(limit)} ({source})"
        return warn("memory", seen, "lower max_worker_memory or max_workers: the kernel would kill workers first")
    return ok("memory", seen)


async def check_start(config: PoolConfig, timeout: float) -> Finding:
    """Start one worker with these settings, within ``timeout`` seconds: whether preload and initializer work there."""
    if not isinstance(config.backend, str):
        return ok("start", f"not tried: the backend is an object of your own ({type(config.backend).__name__})")
    settings = {setting.name: getattr(config, setting.name) for setting in describe_settings()}
    bound = min(config.start_timeout, timeout)
    pool = plain_pool(**{**settings, "max_workers": 1, "min_workers": 1, "timeout": None, "start_timeout": bound})
    try:
        async with pool:
            await pool.run(selftest_tasks.pid)
    except Exception as error:
        return fail("start", *describe_error(error))
    parts = [name for name in ("preload", "initializer") if getattr(config, name)]
    return ok("start", f"a worker started{' with its ' + ' and '.join(parts) if parts else ''} and answered")
