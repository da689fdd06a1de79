"""What does the ticket socket cost a task, and what does pipelining, which it makes safe, gain?

Run from the root of the checkout: ``python -m experiments.ticket_cost``. It takes about half a minute.

The first part is a blocking ping-pong between two processes over a socketpair; in the second column the other process
reads eight bytes from a second socket before each message, as a worker does. The second part is a whole pool, with
pipelining as it is and switched off.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import os
import socket
import statistics
from time import perf_counter
from typing import TYPE_CHECKING
from unittest import mock

from benchmarks.tasks import noop
from lifepool import Pool
from lifepool._core import policy

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
CALLS = 3_000
MESSAGE = bytes(100)  # about what a call without arguments has, its header included
TICKET = bytes(8)
IN_FLIGHT = 64
POOL_ROUNDS = 5
POOL_TASKS = 15_000


def ping_pong(with_ticket: bool) -> float:
    """Return the median round trip in seconds."""
    wire, far_wire = socket.socketpair()
    tickets, far_tickets = socket.socketpair()
    child = os.fork()
    if not child:
        wire.close()
        tickets.close()
        _echo(far_wire, far_tickets if with_ticket else None)
        os._exit(0)
    far_wire.close()
    far_tickets.close()
    samples = []
    for _ in range(CALLS):
        began = perf_counter()
        wire.sendall(MESSAGE)
        if with_ticket:
            tickets.sendall(TICKET)
        wire.recv(4096)
        samples.append(perf_counter() - began)
    wire.close()
    tickets.close()
    os.waitpid(child, 0)
    return statistics.median(samples)


def _echo(wire: socket.socket, tickets: socket.socket | None) -> None:
    while True:
        if tickets is not None and not tickets.recv(len(TICKET)):
            return
        message = wire.recv(4096)
        if not message:
            return
        wire.sendall(message)


async def throughput() -> float:
    """Return tasks a second of a pool with two workers and ``IN_FLIGHT`` callers."""

    async def caller(count: int) -> None:
        for _ in range(count):
            await pool.run(noop)

    async with Pool(max_workers=2) as pool:
        await asyncio.gather(*(caller(20) for _ in range(IN_FLIGHT)))
        began = perf_counter()
        await asyncio.gather(*(caller(POOL_TASKS // IN_FLIGHT) for _ in range(IN_FLIGHT)))
        return POOL_TASKS / (perf_counter() - began)


def throughput_without_pipelining() -> float:
    """Return the same, with one task at a time sent to each worker."""
    with mock.patch.object(policy, "pipeline_depth", return_value=1):
        return asyncio.run(throughput())


def compare(what: str, unit: str, rounds: int, first: Callable[[], float], second: Callable[[], float]) -> None:
    """Measure two things in turn and print both and their ratio."""
    pairs = [(first(), second()) for _ in range(rounds)]
    ratios = [b / a for a, b in pairs]
    a, b = (statistics.median(values) for values in zip(*pairs, strict=True))
    low, high = min(ratios), max(ratios)
    print(f"{what}: {a:,.1f} -> {b:,.1f} {unit}, ratio {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")


def main() -> None:
    """Print both comparisons."""
    us = 1e6
    compare(
        "blocking ping-pong, without -> with a ticket",
        "us",
        ROUNDS,
        lambda: ping_pong(False) * us,
        lambda: ping_pong(True) * us,
    )
    compare(
        f"a pool, {IN_FLIGHT} no-ops in flight, without -> with pipelining",
        "tasks/s",
        POOL_ROUNDS,
        throughput_without_pipelining,
        lambda: asyncio.run(throughput()),
    )


if __name__ == "__main__":
    main()
