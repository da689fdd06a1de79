"""Starts a pool when it is imported, and so in every worker that imports it."""

from __future__ import annotations

from lifepool import PoolClosed
from lifepool.futures import ProcessPoolExecutor

refusal = "none"
try:
    with ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(int).result()
except PoolClosed as error:
    refusal = str(error)


class Argument:
    def refusal(self) -> str:
        return refusal


def what_happened() -> str:
    return refusal
