"""What does it cost to pass a table along with each task, and what as a constant?

Run from the root of the checkout: ``python -m experiments.constant_arguments``. It takes about ten seconds.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import pickle
import statistics
from time import perf_counter

from lifepool import Pool, constant

ROUNDS = 7
CALLS = 50
SIZES = (100, 10_000, 100_000)


def look_up(table: dict[str, int], word: str) -> int | None:
    """Do what each task does: look a key up."""
    return table.get(word)


async def measure(pool: Pool, table: dict[str, int]) -> float:
    """Return microseconds for each call, one after the other; a first one is not counted."""
    await pool.run(look_up, table, "word 1")
    began = perf_counter()
    for _ in range(CALLS):
        await pool.run(look_up, table, "word 1")
    return 1e6 * (perf_counter() - began) / CALLS


async def main() -> None:
    """Measure both in turn, and print medians and ranges."""
    print(f"µs for each call with one worker, median (range) of {ROUNDS} rounds of {CALLS} calls")
    async with Pool(max_workers=1) as pool:
        for size in SIZES:
            table = {f"word {number}": number for number in range(size)}
            ways = {"as an argument": table, "as a constant": constant(table)}
            samples: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for name, argument in ways.items():
                    samples[name].append(await measure(pool, argument))
            for name, values in samples.items():
                middle, low, high = statistics.median(values), min(values), max(values)
                kilobytes = len(pickle.dumps(table)) / 1000
                print(f"{kilobytes:8.0f} kB  {middle:9.0f}  ({low:.0f} to {high:.0f})  {name}")


if __name__ == "__main__":
    asyncio.run(main())
