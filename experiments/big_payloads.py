"""When is shared memory worth it, how is it best written, and what does a big payload do to the event loop?

Run from the root of the checkout: ``python -m experiments.big_payloads``. It takes about a minute.

1. Ways to get a pickle of random bytes into a shared file: pickled first and copied then; pickled straight into the
   map, or by ``pwrite``, where the file has memory already and where it has none.
2. Round trips through a pool with and without shared memory: from which size on is it faster?
3. How late the loop's timers are while a payload is echoed again and again.
4. The same for the copies alone: on the loop, and in a thread by system calls, which let go of the interpreter.
"""

# ruff: noqa: T201 - an experiment prints its tables

from __future__ import annotations

import asyncio
import mmap
import os
import pickle
import statistics
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.tasks import echo
from experiments.loop_lag import late_ticks
from lifepool import Pool
from lifepool.backends.local.codec import sink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KIB, MIB = 1 << 10, 1 << 20
ROOM = 1 << 30
TOUCHED = 256 * MIB  # bytes that each way copies in all
THRESHOLD_SIZES = [4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, MIB]
ROUNDS = 9
CALLS = 60
TICK_S = 0.001
LAG_CALLS = 15


class Plain:
    """A file that ``pickle.Pickler`` writes to, by way of a function of offset and data."""

    def __init__(self, put: Callable[[int, Any], object]) -> None:
        self._put = put
        self._at = 0

    def write(self, data: Any) -> int:
        """Append the data."""
        self._put(self._at, data)
        self._at += len(data)
        return len(data)


def median_us(action: Callable[[], object], count: int, before: Callable[[], object] = lambda: None) -> float:
    """Return the median time of an action in microseconds."""
    samples = []
    for _ in range(count):
        before()
        started = perf_counter()
        action()
        samples.append(perf_counter() - started)
    return statistics.median(samples) * 1e6


def show_ways(size: int) -> None:
    """Print a row of part 1."""
    fd = os.memfd_create("experiment")
    os.ftruncate(fd, ROOM)
    memory = mmap.mmap(fd, ROOM)
    value = (os.urandom(size),)

    def put(offset: int, data: Any) -> None:
        memory[offset : offset + len(data)] = data

    def copied() -> None:
        put(0, pickle.dumps(value, 5))

    def mapped() -> None:
        pickle.Pickler(Plain(put), 5).dump(value)

    def by_call() -> None:
        pickle.Pickler(Plain(lambda offset, data: os.pwrite(fd, data, offset)), 5).dump(value)

    def punched() -> None:
        memory.madvise(mmap.MADV_REMOVE, 0, 2 * size)

    count = max(5, min(100, TOUCHED // size))
    figures = [median_us(way, count) for way in (copied, mapped, by_call)]
    figures += [median_us(way, count, punched) for way in (mapped, by_call)]
    print(f"{size // KIB:>9,} KiB" + "".join(f"{figure:>14,.0f}" for figure in figures))
    memory.close()
    os.close(fd)


def set_threshold(size: int) -> None:
    """Set malloc's threshold. Runs in each worker, and in the server."""
    sink.BIG_BYTES = size


async def one_round(pool: Pool, size: int) -> float:
    """Return the median round trip in microseconds."""
    value = os.urandom(size)
    samples = []
    for _ in range(CALLS):
        started = perf_counter()
        await pool.run(echo, value)
        samples.append(perf_counter() - started)
    return statistics.median(samples) * 1e6


async def show_threshold() -> None:
    """Print part 2: interleaved, so that a drift of the machine hits both."""
    print("\necho, us a round trip     socket    shared memory    ratio within a round: median (range)")
    never = sys.maxsize
    async with (
        Pool(max_workers=1, initializer=set_threshold, initargs=(never,)) as by_socket,
        Pool(max_workers=1, initializer=set_threshold, initargs=(1,)) as by_memory,
    ):
        for size in THRESHOLD_SIZES:
            pairs = []
            for _ in range(ROUNDS):
                set_threshold(never)
                sent = await one_round(by_socket, size)
                set_threshold(1)
                pairs.append((sent, await one_round(by_memory, size)))
            ratios = sorted(a / b for a, b in pairs)
            sent, stored = (statistics.median(column) for column in zip(*pairs, strict=True))
            low, middle, high = ratios[0], statistics.median(ratios), ratios[-1]
            print(f"{size // KIB:>13,} KiB {sent:>14,.0f} {stored:>16,.0f} {middle:>10.2f} ({low:.2f}-{high:.2f})")


async def lags_of(action: Callable[[], Awaitable[object]]) -> list[float]:
    """Return milliseconds by which each tick was late while this was done a few times."""
    lags, _ = await late_ticks(action, LAG_CALLS, TICK_S)
    return lags


async def show_lag() -> None:
    """Print part 3."""
    print("\nechoed         loop's lag, ms:  socket median, p99, longest      shared memory median, p99, longest")
    async with (
        Pool(max_workers=1, initializer=set_threshold, initargs=(sys.maxsize,)) as by_socket,
        Pool(max_workers=1) as by_memory,
    ):
        for size in (MIB, 16 * MIB, 64 * MIB):
            row = ""
            for pool, threshold in ((by_socket, sys.maxsize), (by_memory, 64 * KIB)):
                set_threshold(threshold)
                value = os.urandom(size)
                await pool.run(echo, value)
                row += shown(await lags_of(lambda: pool.run(echo, value)))  # noqa: B023 - called at once
            print(f"{size // KIB:>9,} KiB {row}")


async def show_lag_of_copies() -> None:
    """Print part 4."""
    print("\none copy of 64 MiB       loop's lag, ms:   median, p99, longest          us a copy")
    fd = os.memfd_create("experiment")
    os.ftruncate(fd, ROOM)
    memory = mmap.mmap(fd, ROOM)
    size = 64 * MIB
    data = os.urandom(size)
    os.pwrite(fd, data, 0)

    async def write_here() -> None:
        memory[:size] = data

    async def read_here() -> None:
        memory[:size]

    for name, copy in (
        ("in, on the loop", write_here),
        ("in, pwrite in a thread", lambda: asyncio.to_thread(os.pwrite, fd, data, 0)),
        ("out, on the loop", read_here),
        ("out, pread in a thread", lambda: asyncio.to_thread(os.pread, fd, size, 0)),
    ):
        await copy()
        started = perf_counter()
        lags = await lags_of(copy)
        spent = (perf_counter() - started) / LAG_CALLS * 1e6
        print(f"{name:<24} {shown(lags)} {spent:>18,.0f}")
    memory.close()
    os.close(fd)


def shown(lags: list[float]) -> str:
    """Return the median, the 99th percentile and the longest."""
    return f"{lags[len(lags) // 2]:>16.2f} {lags[int(len(lags) * 0.99)]:>8.1f} {lags[-1]:>8.1f}"


def main() -> None:
    """Print all tables."""
    print("into shared memory, us:   dumps, copy     into map        pwrite     map, cold  pwrite, cold")
    for size in (64 * KIB, MIB, 16 * MIB, 64 * MIB):
        show_ways(size)
    asyncio.run(show_threshold())
    asyncio.run(show_lag())
    asyncio.run(show_lag_of_copies())


if __name__ == "__main__":
    main()
