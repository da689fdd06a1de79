"""A server in the place of process 1: lets tasks with children pass their timeouts, says "ready", and goes on.

It closes its pool when it is sent a line, says "closed", and stays until stdin ends.
"""

import asyncio
import ctypes
import os
import sys

import psutil

from lifepool import Pool, TaskTimeout
from tests.engine import child_tasks
from tests.engine.gates import Gate, until

PR_SET_CHILD_SUBREAPER = 36


def left() -> list[str]:
    """What tasks have started and is still there, and what has ended and was not reaped."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            found.append(process.status() if process.status() == psutil.STATUS_ZOMBIE else process.name())
        except psutil.NoSuchProcess:
            continue
    return [each for each in found if each in ("sleep", "sh", psutil.STATUS_ZOMBIE)]


async def main(address: str) -> None:
    async with Pool(max_workers=2) as pool:
        for function in (child_tasks.wait_for_shell, child_tasks.hang_in_c_with_shell, child_tasks.hang_in_system):
            for _ in range(3):
                try:
                    await pool.run(function, address, timeout=0.3)
                except TaskTimeout:
                    continue
        await until(lambda: not left())
        await pool.run(child_tasks.leave_one)
        await pool.run(os.getpid)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    print("closed", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with Gate() as gate:
        asyncio.run(main(gate.address))
