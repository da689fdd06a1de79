"""Measure lifepool and a peer in turn, in one process, in bursts of a fraction of a second.

A time says little on another machine, or on the same one an hour later; a ratio of two times that were measured within
the same second says a lot. Both are warm all the while, and the one whose turn it is not has nothing to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from benchmarks import limits, tasks
from benchmarks.environment import ROOT
from lifepool.cli.bench.cases import loop_factory
from lifepool.cli.bench.contenders import LIFEPOOL, LIMIT, STANDARD, Contender
from lifepool.cli.bench.timing import count_calls, running, time_calls
from lifepool.cli.isolation import run_isolated
from lifepool.cli.rounds import rotated

MEBIBYTE = 1 << 20
TIMEOUT = 60.0  # seconds, for a measurement of two or three
PING_PONG = 0.1  # seconds

Burst = Callable[[Contender, float], Awaitable[float]]
"""Calls a contender for so many seconds; returns the seconds that a call took."""


@dataclass(frozen=True)
class PairedCase:
    """What is measured.

    Attributes:
        name: what the calls are.
        loop: the event loop.
        burst: calls a contender for so many seconds, and returns the seconds that a call took.
        floor: does the same with nothing but system calls and copies, and is the peer then. The standard pool's time
            for a MiB differs twofold from one process to the next; the floor's is mostly copies.
    """

    name: str
    loop: str
    burst: Burst
    floor: Callable[[float], float] | None = None

    @property
    def key(self) -> str:
        """Return its name and event loop: how it is called on the command line and in the file."""
        return f"{self.name}, {self.loop}"

    @property
    def peer(self) -> str:
        """Return what lifepool is compared with."""
        return STANDARD if self.floor is None else LIMIT


@dataclass(frozen=True)
class Pair:
    """One measurement.

    Attributes:
        ratio: the peer's time divided by lifepool's: the median over the bursts.
        ping_pong: seconds of a blocking round trip between two processes: how quickly this machine wakes up just now.
    """

    ratio: float
    ping_pong: float


async def _one_by_one(make: Callable[[], Any] | None, contender: Contender, seconds: float) -> float:
    if make is None:
        return median(await time_calls(contender, seconds, tasks.noop))
    return median(await time_calls(contender, seconds, tasks.echo, make()))


async def _in_flight(callers: int, contender: Contender, seconds: float) -> float:
    return 1 / await count_calls(contender, seconds, callers)


async def _at_once(count: int, contender: Contender, seconds: float) -> float:
    """Submit so many tasks in one go, and await them all; again, until the time is over."""
    start = time.perf_counter()
    calls = 0
    while time.perf_counter() - start < seconds or not calls:
        await asyncio.gather(*(contender.run(tasks.noop) for _ in range(count)))
        calls += count
    return (time.perf_counter() - start) / calls


def _floor(size: int, seconds: float) -> float:
    return median(limits.shared_memory_echo(size, seconds, 0.0))


def _text(size: int) -> str:
    return "0123456789abcdef" * (size // 16)


CASES = (
    PairedCase("no-op", "asyncio", partial(_one_by_one, None)),
    PairedCase("no-op", "uvloop", partial(_one_by_one, None)),
    PairedCase("8 in flight", "asyncio", partial(_in_flight, 8)),
    PairedCase("64 in flight", "asyncio", partial(_in_flight, 64)),
    PairedCase("64 in flight", "uvloop", partial(_in_flight, 64)),
    PairedCase("1000 at once", "asyncio", partial(_at_once, 1000)),
    PairedCase("text 1 MiB", "asyncio", partial(_one_by_one, partial(_text, MEBIBYTE)), partial(_floor, MEBIBYTE)),
    PairedCase("bytes 1 MiB", "asyncio", partial(_one_by_one, partial(bytes, MEBIBYTE)), partial(_floor, MEBIBYTE)),
)
"""What users notice, as far as its ratio is steady. That of texts of 64 KiB is not: it was 2 to 4. They take about
as long as lifepool stays awake."""


class Slowed(Contender):
    """A contender that keeps the event loop busy after each call: a planted regression.

    Args:
        inner: who does the work.
        seconds: for each call.
    """

    def __init__(self, inner: Contender, seconds: float) -> None:
        super().__init__(inner.workers)
        self._inner = inner
        self._seconds = seconds

    async def start(self) -> None:
        """Do nothing: it runs."""

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run it, and then lose time."""
        result = await self._inner.run(fn, *args)
        end = time.perf_counter() + self._seconds
        while time.perf_counter() < end:
            pass
        return result

    async def close(self) -> None:
        """Do nothing: its owner closes it."""


def measure_pair(request: dict[str, Any]) -> dict[str, Any]:
    """Measure a case in this process.

    Args:
        request: ``case`` and ``loop``, ``workers``, ``seconds`` of a burst, ``bursts`` of each pool, and ``slowed``: by
            what lifepool's time is multiplied artificially.
    """
    case = next(case for case in CASES if (case.name, case.loop) == (request["case"], request["loop"]))
    ping_pong = median(limits.ping_pong(PING_PONG, PING_PONG / 4))
    with asyncio.Runner(loop_factory=loop_factory(case.loop)) as runner:
        seconds = runner.run(_bursts(case, request))
    ratios = [theirs / ours for ours, theirs in zip(seconds[LIFEPOOL], seconds[case.peer], strict=True)]
    return {"ratio": median(ratios), "ping_pong": ping_pong, "seconds": seconds}


async def _bursts(case: PairedCase, request: dict[str, Any]) -> dict[str, list[float]]:
    """Return the seconds of a call, by contender, of each burst."""
    length = request["seconds"]
    async with AsyncExitStack() as stack:
        contenders = {}
        # The standard pool forks: first, while there is nothing to inherit.
        for name in (LIFEPOOL,) if case.floor else (STANDARD, LIFEPOOL):
            contenders[name] = await stack.enter_async_context(running(name, request["workers"]))
            await case.burst(contenders[name], length)
        if request["slowed"] > 1:
            usual = await case.burst(contenders[LIFEPOOL], length)
            delay = min((request["slowed"] - 1) * usual, 1.0)  # the usual time is wrong if the machine stood still
            contenders[LIFEPOOL] = Slowed(contenders[LIFEPOOL], delay)
        seconds: dict[str, list[float]] = {LIFEPOOL: [], case.peer: []}
        for index in range(request["bursts"]):
            for name in rotated(list(seconds), index):
                if name == LIMIT and case.floor:
                    seconds[name].append(case.floor(length))
                else:
                    seconds[name].append(await case.burst(contenders[name], length))
    return seconds


def measure(case: PairedCase, request: dict[str, Any]) -> Pair:
    """Measure a case in a process of its own.

    Raises:
        RuntimeError: If it failed.
    """
    outcome = run_isolated(measure_pair, {"case": case.name, "loop": case.loop, **request}, TIMEOUT, cwd=ROOT)
    if outcome.error:
        raise RuntimeError(f"{case.name} ({case.loop}): {outcome.error}")
    return Pair(outcome.answer["ratio"], outcome.answer["ping_pong"])
