"""Starts a pool, puts workers into the states named as arguments, tells the pids, and waits to be ended.

The pids of the workers come first, then the template's. ``--end`` ends the program without closing the pool.
"""

import asyncio
import os
import sys

from lifepool import Pool
from tests import tasks
from tests.engine.gates import Gate

STATES = {
    "python": tasks.hold_in_python,
    "c": tasks.hold_in_c,
    "sleep": tasks.hold_in_sleep,
    "stubborn": tasks.hold_stubbornly,
}


async def main(states: list[str], *, end: bool, gate: Gate) -> None:
    pool = Pool(max_workers=len(states) + 1, drain_timeout=0.2)
    await pool.start()
    template, _ = await pool.run(tasks.process_group)
    handles = [pool.submit(STATES[state], gate.address) for state in states]
    pids = [(await gate.arrival()).pid for _ in states]
    print(*pids, await pool.run(os.getpid), template, flush=True)
    if end:
        return
    async with pool:
        try:
            # One more task each time somebody sends a line: so the test sees that the pool goes on.
            reader = asyncio.StreamReader()
            loop = asyncio.get_running_loop()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            while await reader.readline():
                print(await pool.run(os.getpid), flush=True)
        finally:
            for handle in handles:
                handle.cancel()


if __name__ == "__main__":
    with Gate() as gate:
        try:
            asyncio.run(main(sys.argv[2:], end=sys.argv[1] == "--end", gate=gate))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
