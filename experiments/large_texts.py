"""How much longer than ``bytes`` of the same size in UTF-8 does a text take to a worker and back?

Run from the root of the checkout: ``python -m experiments.large_texts [KiB/KiB/...]``. It takes half a minute.

Each cell: the median of a call in microseconds, the CPU time of both processes a call, and both as multiples of those
of ``bytes``. Rounds are interleaved, and each call sends a text that was never sent before.
"""

# ruff: noqa: T201 - an experiment prints its tables

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
from collections import defaultdict
from time import perf_counter

from benchmarks.tasks import echo
from lifepool import Pool

UNITS = {
    "bytes": "The quick brown fox jumps over the lazy dog. ",
    "ASCII": "The quick brown fox jumps over the lazy dog. ",
    "Latin": "Der schöne Übermut größter Bären läuft übers Eis. ",
    "quotes": "It's “fine” - she said it, and all went on. ",
    "CJK": "水は方円の器に随う。",
    "some emoji": "great stuff 😀 really, I love it so much, thanks! ",
}
KIB = 1024
ROUNDS = 5


def cpu_s() -> float:
    """Return the CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make(kind: str, size: int) -> str | bytes:
    """Return a new value of about ``size`` bytes of UTF-8."""
    text = UNITS[kind] * (size // len(UNITS[kind].encode()))
    return text.encode() if kind == "bytes" else text


async def main(sizes: list[int]) -> None:
    """Print the table."""
    async with Pool(max_workers=1) as pool:
        for size in sizes:
            walls: dict[str, list[float]] = defaultdict(list)
            cpus: dict[str, list[float]] = defaultdict(list)
            calls = max(3, min(50, (16 << 20) // size))
            for number in range(ROUNDS + 1):
                for kind in UNITS:
                    values = [make(kind, size) for _ in range(calls)]
                    before = cpu_s() + await pool.run(cpu_s)
                    spent = []
                    while values:
                        started = perf_counter()
                        await pool.run(echo, values.pop())
                        spent.append(perf_counter() - started)
                    if number:  # the first round warms up
                        walls[kind] += spent
                        cpus[kind].append((cpu_s() + await pool.run(cpu_s) - before) / calls)
            wall, cpu = statistics.median(walls["bytes"]), statistics.median(cpus["bytes"])
            print(f"{size // KIB} KiB")
            for kind in UNITS:
                took, used = statistics.median(walls[kind]), statistics.median(cpus[kind])
                print(
                    f"  {kind:<12}{took * 1e6:>10.0f} ({took / wall:.2f}x){used * 1e6:>10.0f} CPU ({used / cpu:.2f}x)",
                    flush=True,
                )


if __name__ == "__main__":
    asyncio.run(main([KIB * int(each) for each in (sys.argv[1] if len(sys.argv) > 1 else "20/64/256/1024").split("/")]))
