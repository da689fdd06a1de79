"""Runs a task that hangs in a pool of its own; tells the pids of outer worker, inner template and inner worker."""

import asyncio
import sys

import psutil

from lifepool import Pool
from tests.engine import nested_tasks
from tests.engine.gates import Gate


async def main(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        pool.submit(nested_tasks.hang_in_a_nested_pool, gate.address)
        (worker,) = (each.pid for each in pool.workers())
        inner = next(pid for pid in [(await gate.arrival()).pid, (await gate.arrival()).pid] if pid != worker)
        print(worker, psutil.Process(inner).ppid(), inner, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with Gate() as gate:
        asyncio.run(main(gate))
