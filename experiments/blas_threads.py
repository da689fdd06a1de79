"""What do the threads of NumPy's BLAS do when each CPU has a worker already? Matrix products, with and without them.

Run from the root of the checkout: ``python -m experiments.blas_threads``. Each run is a program of its own, because the
library reads ``OMP_NUM_THREADS`` when it is imported. They take turns.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from lifepool import Pool

TASKS, SIZE, PRODUCTS, ROUNDS = 40, 400, 5, 3
ONE_RUN = "one run"


def multiply(seed: int) -> float:
    """Multiply a matrix with itself, again and again."""
    matrix = np.random.default_rng(seed).standard_normal((SIZE, SIZE))
    for _ in range(PRODUCTS):
        matrix = matrix @ matrix
        matrix /= np.abs(matrix).max()
    return float(matrix[0, 0])


async def one_run() -> float:
    """Return the seconds that all tasks took, with a worker for each CPU."""
    async with Pool(preload=["numpy"]) as pool:
        await pool.gather(multiply, range(2 * pool.max_workers), chunksize=1)
        began = time.perf_counter()
        await pool.gather(multiply, range(TASKS), chunksize=1)
        return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    took: dict[str, list[float]] = {"": [], "1": []}
    for _ in range(ROUNDS):
        for threads, seconds in took.items():
            env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
            env |= {"OMP_NUM_THREADS": threads} if threads else {}
            command = [sys.executable, "-m", "experiments.blas_threads", ONE_RUN]
            done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)  # noqa: S603 - ourselves
            seconds.append(float(done.stdout))
    for threads, seconds in took.items():
        name = f"OMP_NUM_THREADS={threads}" if threads else "not set"
        print(f"{name:18} {statistics.median(seconds):6.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    if sys.argv[1:] == [ONE_RUN]:
        print(asyncio.run(one_run()))
    else:
        main()
