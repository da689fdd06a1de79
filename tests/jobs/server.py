"""A server that runs jobs until it is told to end: ``python -m tests.jobs.server URL LEASE``."""

from __future__ import annotations

import asyncio
import sys

from lifepool import Pool
from lifepool.jobs import Jobs


async def serve(url: str, lease: float) -> None:
    async with Jobs(Pool(max_workers=2), store=url, lease=lease):
        print("up", flush=True)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(sys.stdin, ended.set)
        await ended.wait()
        loop.remove_reader(sys.stdin)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], float(sys.argv[2])))
