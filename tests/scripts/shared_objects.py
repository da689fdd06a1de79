"""Has workers use objects of multiprocessing that came by `initargs`, kills some of them, and checks what they did.

Usage: shared_objects.py pool|executor spawn|forkserver
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from typing import Any

from lifepool import Pool
from lifepool.futures import ProcessPoolExecutor
from tests.engine import shared_objects as shared


async def with_pool(initargs: Any, event: Any, queue: Any) -> list[int]:
    async with Pool(max_workers=2, initializer=shared.share, initargs=initargs) as pool:
        event.set()
        pids = await pool.gather(shared.use, range(1, 5))
        assert sorted(queue.get(timeout=20) for _ in pids) == [1, 2, 3, 4]
        with queue._wlock:  # the thread that wrote last has let go of it: who is killed with it would keep it for ever
            os.kill(pids[0], signal.SIGKILL)
        await pool.recycle()
        assert await pool.run(shared.use, 5) not in pids
    assert queue.get(timeout=20) == 5
    return [1, 2, 3, 4, 5]


def with_executor(initargs: Any, event: Any, queue: Any) -> list[int]:
    with ProcessPoolExecutor(max_workers=2, initializer=shared.share, initargs=initargs) as executor:
        event.set()
        assert len(list(executor.map(shared.use, [1, 2, 3]))) == 3
    assert sorted(queue.get(timeout=20) for _ in range(3)) == [1, 2, 3]
    return [1, 2, 3]


def main(what: str, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with context.Manager() as manager:
        queue, value, event, proxy = context.Queue(), context.Value("i", 0), context.Event(), manager.list()
        ours, theirs = context.Pipe(duplex=False)
        initargs = (context.Lock(), queue, value, event, theirs, proxy)
        arguments = (initargs, event, queue)
        numbers = asyncio.run(with_pool(*arguments)) if what == "pool" else with_executor(*arguments)
        assert sorted(ours.recv() for _ in numbers) == numbers
        assert value.value == sum(numbers)
        assert sorted(proxy) == numbers
    print("all used")


if __name__ == "__main__":
    main(*sys.argv[1:])
