"""Measure one pool, in one process for each pool and round."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from lifepool.cli.bench import tasks
from lifepool.cli.bench.timing import count_calls, running, time_calls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


IN_FLIGHT = 64
MEBIBYTE = 1 << 20
ANSWER_TIMEOUT_S = 8.0
"""For an answer that needs milliseconds; a restart of workers is in it."""
LATER_TASKS = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One figure.

    Attributes:
        name: Its key in the report.
        title: What is measured.
        unit: Of the figure.
        better: Which way it should go.
    """

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]


CASES = (
    Case("noop", "round trip of a task that does nothing", "µs", "lower"),
    Case("in_flight", f"tasks that do nothing, {IN_FLIGHT} in flight", "tasks/s", "higher"),
    Case("echo", "1 MiB there and back", "ms", "lower"),
)


def measure_speed(request: dict[str, Any]) -> dict[str, float]:
    """Measure every case with one pool.

    Args:
        request: ``contender``, ``workers``, ``loop``, and ``duration`` of each case in seconds.
    """
    with asyncio.Runner(loop_factory=loop_factory(request["loop"])) as runner:
        return runner.run(_speed(request["contender"], request["workers"], request["duration"]))


async def _speed(name: str, workers: int, duration: float) -> dict[str, float]:
    payload = os.urandom(MEBIBYTE)
    async with running(name, workers) as contender:
        await time_calls(contender, duration / 4, tasks.noop)
        noop = await time_calls(contender, duration, tasks.noop)
        await count_calls(contender, duration / 4, IN_FLIGHT)
        rate = await count_calls(contender, duration, IN_FLIGHT)
        if await contender.run(tasks.echo, payload) != payload:
            raise RuntimeError(f"{name} did not return the payload that was sent")
        await time_calls(contender, duration / 4, tasks.echo, payload)
        echo = await time_calls(contender, duration, tasks.echo, payload)
    return {"noop": median(noop) * 1e6, "in_flight": rate, "echo": median(echo) * 1e3}


def measure_survival(request: dict[str, Any]) -> dict[str, Any]:
    """Kill a worker while it runs a task, and see whether the pool goes on.

    Args:
        request: ``contender``, ``workers`` and ``loop``.

    Returns:
        ``survived``, and ``detail`` in words.
    """
    with asyncio.Runner(loop_factory=loop_factory(request["loop"])) as runner:
        return runner.run(_survival(request["contender"], request["workers"]))


async def _survival(name: str, workers: int) -> dict[str, Any]:
    async with running(name, workers) as contender:
        fate = await _outcome(contender.run(tasks.crash))
        later = [await _outcome(contender.run(tasks.noop)) for _ in range(LATER_TASKS)]
        bad = sorted({outcome for outcome in later if outcome != "answered"})
        detail = f"its task: {fate}; later ones: {', '.join(bad) or 'answered'}"
        return {"survived": not bad and fate not in ("answered", "hangs"), "detail": detail}


async def _outcome(call: Awaitable[object]) -> str:
    """Return what comes of a call, in a word."""
    future = asyncio.ensure_future(call)
    done, _ = await asyncio.wait([future], timeout=ANSWER_TIMEOUT_S)
    if not done:
        future.cancel()
        return "hangs"
    error = future.exception()
    return "answered" if error is None else type(error).__name__


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of the event loop called ``asyncio`` or ``uvloop``."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
