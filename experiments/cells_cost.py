"""What does it gain to put small tasks into shared memory, and would a worker that spins before it sleeps gain more?

Run from the root of the checkout: ``python -m experiments.cells_cost``. It takes about half a minute.

The first part is a whole pool with cells and without any (all tasks go over the wire). The second is a blocking
ping-pong over a socketpair: in the second column the other process asks again and again for up to 100 us before it
blocks.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
from time import perf_counter
from unittest import mock

from benchmarks.tasks import noop
from experiments.ticket_cost import MESSAGE, compare
from lifepool import Pool
from lifepool.backends.local import channel

ROUNDS = 7
CALLS = 3_000
SPIN_S = 100e-6


async def _round_trip() -> float:
    async with Pool(max_workers=2) as pool:
        for _ in range(200):
            await pool.run(noop)
        samples = []
        for _ in range(CALLS):
            began = perf_counter()
            await pool.run(noop)
            samples.append(perf_counter() - began)
    return statistics.median(samples)


def round_trip(with_cells: bool) -> float:
    """Return the median round trip of a no-op through a pool, in seconds."""
    if with_cells:
        return asyncio.run(_round_trip())
    with mock.patch.object(channel, "Cells", side_effect=OSError):
        return asyncio.run(_round_trip())


def ping_pong(spins: bool) -> float:
    """Return the median round trip in seconds."""
    near, far = socket.socketpair()
    child = os.fork()
    if not child:
        near.close()
        while message := (_spin(far) if spins else far.recv(4096)):
            far.sendall(message)
        os._exit(0)
    far.close()
    samples = []
    for _ in range(CALLS):
        began = perf_counter()
        near.sendall(MESSAGE)
        near.recv(4096)
        samples.append(perf_counter() - began)
    near.close()
    os.waitpid(child, 0)
    return statistics.median(samples)


def _spin(end: socket.socket) -> bytes:
    until = perf_counter() + SPIN_S
    while perf_counter() < until:
        try:
            return end.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
    return end.recv(4096)


def main() -> None:
    """Print both comparisons."""
    us = 1e6
    compare(
        "no-op through a pool, on the wire -> in a cell",
        "us",
        ROUNDS,
        lambda: round_trip(False) * us,
        lambda: round_trip(True) * us,
    )
    compare(
        "blocking ping-pong, the other side sleeps -> spins",
        "us",
        ROUNDS,
        lambda: ping_pong(False) * us,
        lambda: ping_pong(True) * us,
    )


if __name__ == "__main__":
    main()
