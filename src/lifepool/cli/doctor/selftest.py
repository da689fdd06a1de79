"""Test the engine on this machine with a real pool: start it, call it, kill a worker, hang one, end it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from lifepool.cli.doctor import selftest_tasks
from lifepool.cli.doctor.findings import Finding, describe_error, fail, ok, warn
from lifepool.cli.summary import Spread
from lifepool.cli.units import time_text
from lifepool.config import describe_settings
from lifepool.errors import PoolError, TaskTimeout, WorkerLost
from lifepool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

STEP_BOUND_S = 30.0
"""For a step that takes milliseconds on a healthy machine."""
ROUND_TRIPS = 200
ECHOES = 20
MEBIBYTE = 1 << 20
HANG_TIMEOUT_S = 0.3
LATE_S = 0.5
"""A timeout is kept to 0.1 s; more than this and the machine, or the engine, is in trouble."""
_REPORT = "report this with the output of `lifepool doctor --json`"


def plain_pool(**settings: Any) -> Pool:
    """Make a pool that reads no environment variable: every setting is given."""
    defaults = {setting.name: setting.default for setting in describe_settings()}
    return Pool(**{**defaults, "max_workers": 1, "min_workers": 1, "backend": "local", **settings})


async def check_engine() -> AsyncIterator[Finding]:
    """Try what a pool promises, one finding a promise. Takes about a second; bounded."""
    pool = plain_pool(name="doctor", start_timeout=STEP_BOUND_S)
    began = time.perf_counter()
    try:
        async with asyncio.timeout(STEP_BOUND_S):
            await pool.start()
    except (PoolError, OSError, TimeoutError) as error:
        yield fail("start", *describe_error(error))
        return
    try:
        yield ok("start", f"a worker was ready after {time_text(time.perf_counter() - began)}")
        for topic, step in _STEPS.items():
            with without_warnings():
                finding = await _bounded(topic, step, pool)
            yield finding
    finally:
        await pool.aclose(0)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Keep the pool's warnings of tasks that were lost or timed out off the screen: here that is the test."""
    logger = logging.getLogger("lifepool")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


async def _bounded(topic: str, step: Callable[[Pool], Awaitable[Finding]], pool: Pool) -> Finding:
    try:
        async with asyncio.timeout(STEP_BOUND_S):
            return await step(pool)
    except TimeoutError:
        return fail(topic, f"nothing came of it in {STEP_BOUND_S:g} s", _REPORT)
    except Exception as error:
        return fail(topic, *describe_error(error))


async def _time(call: Callable[[], Awaitable[object]], times: int) -> Spread:
    seconds = []
    for _ in range(times):
        before = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - before)
    return Spread.of(seconds)


async def _round_trip(pool: Pool) -> Finding:
    spread = await _time(lambda: pool.run(selftest_tasks.pid), ROUND_TRIPS)
    return ok("round trip", f"{time_text(spread.median)} for a task that does nothing (median of {ROUND_TRIPS})")


async def _echo(pool: Pool) -> Finding:
    payload = bytes(MEBIBYTE)
    if await pool.run(selftest_tasks.echo, payload) != payload:
        return fail("1 MiB echo", "it came back changed", _REPORT)
    spread = await _time(lambda: pool.run(selftest_tasks.echo, payload), ECHOES)
    return ok("1 MiB echo", f"{time_text(spread.median)} there and back (median of {ECHOES})")


async def _death(pool: Pool) -> Finding:
    before = await pool.run(selftest_tasks.pid)
    try:
        await pool.run(selftest_tasks.die)
    except WorkerLost:
        died = time.perf_counter()
        after = await pool.run(selftest_tasks.pid)
        if after == before:
            return fail("killed worker", "the worker that was killed still answers", _REPORT)
        took = time_text(time.perf_counter() - died)
        return ok("killed worker", f"its task got WorkerLost, the next one was answered {took} later by a new worker")
    return fail("killed worker", "its task got an answer", _REPORT)


async def _hang(pool: Pool) -> Finding:
    began = time.perf_counter()
    try:
        await pool.run(selftest_tasks.hang, timeout=HANG_TIMEOUT_S)
    except TaskTimeout:
        late = time.perf_counter() - began - HANG_TIMEOUT_S
    else:
        return fail("hung task", "it got an answer", _REPORT)
    await pool.run(selftest_tasks.pid)
    seen = f"TaskTimeout {time_text(late)} after its timeout, then the next task was answered"
    if late > LATE_S:
        return warn("hung task", seen, "look at what else uses the CPUs: the event loop was kept waiting")
    return ok("hung task", seen)


_STEPS: dict[str, Callable[[Pool], Awaitable[Finding]]] = {
    "round trip": _round_trip,
    "1 MiB echo": _echo,
    "killed worker": _death,
    "hung task": _hang,
}
