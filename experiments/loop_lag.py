"""How late is the event loop while big payloads go by?

Run from the root of the checkout: ``python -m experiments.loop_lag [MiB] [type/type/...]``. It takes half a minute.

For each type and direction: how late a ticker of one millisecond is while calls follow each other (median, p99,
longest, in milliseconds), and how long a call takes (median, in milliseconds). *in* sends a payload and gets back its
length, *out* asks for one, *both* is an echo. A row of its own has the ticker alone.
"""

# ruff: noqa: T201 - an experiment prints its tables

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.tasks import echo
from lifepool import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MIB = 1 << 20
CALLS = 15
TICK_S = 0.001


def make(kind: str, size: int) -> Any:
    """Return a value of about this many bytes."""
    if kind == "bytes":
        return os.urandom(size)
    if kind == "bytearray":
        return bytearray(os.urandom(size))
    if kind == "numpy":
        return np.frombuffer(os.urandom(size), dtype=np.float64).copy()
    if kind == "str":
        return "x" * size
    if kind == "str, Latin":
        return "é" * (size // 2)
    if kind == "str, CJK":
        return "水" * (size // 3)
    if kind == "list of bytes":
        return [os.urandom(size // 64) for _ in range(64)]
    return [{"number": number, "text": f"row {number}"} for number in range(size // 64)]


_kept: dict[tuple[str, int], Any] = {}


def give(kind: str, size: int) -> Any:
    """Return the value of that kind, made once in each worker."""
    key = (kind, size)
    if key not in _kept:
        _kept[key] = make(kind, size)
    return _kept[key]


async def late_ticks(
    action: Callable[[], Awaitable[object]], calls: int = CALLS, tick_s: float = TICK_S
) -> tuple[list[float], float]:
    """Return milliseconds by which each tick was late while this was done a few times; the median time of one."""
    lags: list[float] = []
    done = asyncio.Event()

    async def tick() -> None:
        while not done.is_set():
            due = perf_counter() + tick_s
            await asyncio.sleep(tick_s)
            lags.append((perf_counter() - due) * 1e3)

    ticking = asyncio.create_task(tick())
    spent = []
    for _ in range(calls):
        started = perf_counter()
        await action()
        spent.append((perf_counter() - started) * 1e3)
        await asyncio.sleep(2 * tick_s)  # also if it never waits
    done.set()
    await ticking
    return sorted(lags), statistics.median(spent)


def show(what: str, lags: list[float], spent: float) -> None:
    """Print one row."""
    p99 = lags[int(len(lags) * 0.99)]
    print(f"{what:<28} {lags[len(lags) // 2]:>8.2f} {p99:>8.2f} {lags[-1]:>8.2f} {spent:>10.2f}", flush=True)


async def main(size: int, kinds: list[str]) -> None:
    """Print the table."""
    print(f"{size // MIB} MiB".ljust(28), "  median      p99  longest     a call")
    async with Pool(max_workers=1) as pool:
        show("(nothing)", *await late_ticks(lambda: asyncio.sleep(0.05)))
        for kind in kinds:
            value = make(kind, size)
            for direction, call in (
                ("in", lambda: pool.run(len, value)),  # noqa: B023 - called at once
                ("out", lambda: pool.run(give, kind, size)),  # noqa: B023
                ("both", lambda: pool.run(echo, value)),  # noqa: B023
            ):
                await call()
                show(f"{kind}, {direction}", *await late_ticks(call))


if __name__ == "__main__":
    asyncio.run(
        main(
            MIB * int(sys.argv[1] if len(sys.argv) > 1 else 64),
            sys.argv[2].split("/")
            if len(sys.argv) > 2
            else ["bytes", "bytearray", "numpy", "str", "str, Latin", "str, CJK", "list of bytes"],
        )
    )
