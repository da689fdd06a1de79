"""Runs a pool in a daemonic process of multiprocessing, which is forbidden to have children of its own.

Usage: daemonic.py pool|executor spawn|forkserver|fork

Prints the pids of that process, its worker and a child of its task's; serves until stdin ends.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from typing import Any

import lifepool
from lifepool.futures import ProcessPoolExecutor


def work() -> tuple[int, int]:
    """A task that has a child; also with multiprocessing, which a daemonic process may not."""
    other = multiprocessing.get_context("spawn").Process(target=int)
    other.start()
    other.join()
    child = subprocess.Popen(["sleep", "1000"])
    return os.getpid(), child.pid


async def serve(told: Any) -> None:
    async with lifepool.Pool(max_workers=1) as pool:
        told.send((os.getpid(), *await pool.run(work)))
        await asyncio.sleep(1000)


def with_pool(told: Any) -> None:
    asyncio.run(serve(told))


def with_executor(told: Any) -> None:
    with ProcessPoolExecutor(max_workers=1) as executor:
        told.send((os.getpid(), *executor.submit(work).result()))
        threading.Event().wait()


if __name__ == "__main__":
    target = {"pool": with_pool, "executor": with_executor}[sys.argv[1]]
    context: Any = multiprocessing.get_context(sys.argv[2])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(theirs,), daemon=True)
    process.start()
    print(*ours.recv(), flush=True)
    sys.stdin.read()
