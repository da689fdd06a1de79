"""From which size on does ``copy=False`` pay?

Run from the root of the checkout: ``python -m experiments.views``. It takes some twenty seconds. A numpy array goes to
a worker that looks at one element, or sums it up; milliseconds a call, median of interleaved rounds.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter
from typing import Any

import numpy as np

from lifepool import Pool

KIB = 1 << 10
SIZES = [4 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB, 16384 * KIB, 65536 * KIB]
ROUNDS = 9


def first(array: Any) -> int:
    """Look at one element."""
    return int(array[0])


def total(array: Any) -> int:
    """Look at all."""
    return int(array.sum())


async def main() -> None:
    """Print the table."""
    print("KiB".rjust(10), "one element: copy   view   ratio        sum: copy   view   ratio")
    async with Pool(max_workers=1) as pool:
        for size in SIZES:
            array = np.ones(size // 8)
            row = f"{size // KIB:>10}"
            for function in (first, total):
                spent: dict[bool, list[float]] = {True: [], False: []}
                for _ in range(ROUNDS):
                    for copy in (True, False):
                        for _ in range(3):
                            started = perf_counter()
                            await pool.run(function, array, copy=copy)
                            spent[copy].append((perf_counter() - started) * 1e3)
                copied, viewed = statistics.median(spent[True]), statistics.median(spent[False])
                row += f"{copied:>15.2f} {viewed:>6.2f} {copied / viewed:>7.2f}  "
            print(row, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
