"""``python -m benchmarks.regressions.calls CASE WORKERS FACTOR``: call a pool in bursts, one for a line of input.

It runs with an old lifepool as well as with the new one. So it uses nothing but what is public, and has its own clocks
and functions: the workers of both import this module. The first line of output is where lifepool was imported from.
Each further one is the seconds that a call took in a burst.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import lifepool

MEBIBYTE = 1 << 20
MOST_LOST = 1.0  # seconds that are lost on purpose after a call, at most

Run = Callable[..., Awaitable[Any]]
"""Runs a function with arguments in a pool."""


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        name: What the calls are.
        loop: The event loop.
        burst: Calls a pool for so many seconds, and returns the seconds that a call took.
    """

    name: str
    loop: str
    burst: Callable[[Run, float], Awaitable[float]]

    @property
    def key(self) -> str:
        """Return its name and event loop: how it is called on the command line."""
        return f"{self.name}, {self.loop}"


def noop() -> None:
    """Do nothing."""


def echo(value: Any) -> Any:
    """Return the argument."""
    return value


async def _one_by_one(fn: Callable[..., Any], make: Callable[[], tuple[Any, ...]], run: Run, seconds: float) -> float:
    arguments = make()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while (before := time.perf_counter()) < end or not samples:
        await run(fn, *arguments)
        samples.append(time.perf_counter() - before)
    return median(samples)


async def _in_flight(callers: int, run: Run, seconds: float) -> float:
    """Call from so many tasks, each of which calls again as soon as it is answered."""
    calls = 0
    start = time.perf_counter()
    end = start + seconds

    async def caller() -> None:
        nonlocal calls
        while not calls or time.perf_counter() < end:
            await run(noop)
            calls += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.perf_counter() - start) / calls


async def _at_once(count: int, run: Run, seconds: float) -> float:
    """Submit so many tasks in one go, and await them all; again, until the time is over."""
    calls = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or not calls:
        await asyncio.gather(*(run(noop) for _ in range(count)))
        calls += count
    return (time.perf_counter() - start) / calls


def _text() -> tuple[str]:
    return ("0123456789abcdef" * (MEBIBYTE // 16),)


def _bytes() -> tuple[bytes]:
    return (bytes(MEBIBYTE),)


_no_op = partial(_one_by_one, noop, tuple)
CASES = (
    Case("no-op", "asyncio", _no_op),
    Case("no-op", "uvloop", _no_op),
    Case("8 in flight", "asyncio", partial(_in_flight, 8)),
    Case("64 in flight", "asyncio", partial(_in_flight, 64)),
    Case("64 in flight", "uvloop", partial(_in_flight, 64)),
    Case("1000 at once", "asyncio", partial(_at_once, 1000)),
    Case("text 1 MiB", "asyncio", partial(_one_by_one, echo, _text)),
    Case("bytes 1 MiB", "asyncio", partial(_one_by_one, echo, _bytes)),
)
"""What users notice."""


def slowed(run: Run, seconds: float) -> Run:
    """Return what keeps the event loop busy for so long after each call: a planted regression."""

    async def lose_time(fn: Callable[..., Any], *arguments: Any) -> Any:
        result = await run(fn, *arguments)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return result

    return lose_time


async def serve(case: Case, workers: int, factor: float) -> None:
    """Answer each line of input with a burst, until there is no more.

    Args:
        workers: Of the pool.
        factor: By what the time of a call is multiplied; 1 to leave it as it is.
    """
    loop = asyncio.get_running_loop()
    print(lifepool.__file__, flush=True)
    async with lifepool.Pool(max_workers=workers) as pool:
        run: Run = pool.run
        # Read in a thread: the pool's own timers go on while it is the other's turn.
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            seconds = await case.burst(run, float(line))
            print(seconds, flush=True)
            if factor > 1 and run == pool.run:  # the first burst says how long a call takes
                run = slowed(run, min((factor - 1) * seconds, MOST_LOST))


def main(key: str, workers: str, factor: str) -> None:
    """Run a case on its event loop."""
    case = next(case for case in CASES if case.key == key)
    factory = None
    if case.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(case, int(workers), float(factor)))


if __name__ == "__main__":
    # Under its real name, not as `__main__`: workers import the functions from here.
    from benchmarks.regressions import calls

    calls.main(*sys.argv[1:])
