"""Starts a pool, forks a helper as programs do, tells the pids of both, and waits.

The arguments say how the helper is forked (``os`` or ``multiprocessing``), and what it does: ``sleep``, ``exit`` (as a
program that ends), or ``use`` the pool that is not its own.
"""

import asyncio
import atexit
import multiprocessing
import os
import sys
import threading
import time
import warnings

from lifepool import Pool, PoolClosed, futures
from tests import tasks

LONG_S = 600.0  # whoever runs this ends it


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # whole, though two processes write


def helper(pool: Pool, executor: futures.ProcessPoolExecutor, deed: str) -> None:
    """What the forked process does; it says on stdout what came of it."""
    if deed == "sleep":
        time.sleep(LONG_S)
    elif deed == "exit":
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        os._exit(7)
    elif deed == "use":
        loop = asyncio.new_event_loop()
        asyncio.events._set_running_loop(None)
        try:
            loop.run_until_complete(_use(pool))
        except Exception as error:
            say(f"pool: {type(error).__name__}")
        try:
            executor.submit(tasks.double, 1)
        except RuntimeError as error:
            say(f"executor: {error}")
        loop.run_until_complete(_close(pool))
        say(f"own: {loop.run_until_complete(_of_its_own(pool))}")
        say(f"then: {pool.state.value}")
        os._exit(7)


async def _use(pool: Pool) -> None:
    for call in (pool.from_thread.run, pool.from_thread.call):
        try:
            call(tasks.double, 21)
        except PoolClosed:
            say("from_thread: PoolClosed")
    try:
        await pool.recycle()
    except PoolClosed:
        say("recycle: PoolClosed")
    await pool.run(tasks.double, 21)


async def _of_its_own(pool: Pool) -> int:
    async with pool:  # a life of its own, in this process
        return await pool.run(tasks.double, 21)


async def _close(pool: Pool) -> None:
    await pool.aclose(0)


def fork(how: str, *arguments: object) -> int:
    if how == "os":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns of threads
            pid = os.fork()
        if pid == 0:
            helper(*arguments)  # type: ignore[arg-type]
        return pid
    process = multiprocessing.get_context("fork").Process(target=helper, args=arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process.start()
    assert process.pid is not None
    return process.pid


async def main(how: str, deed: str) -> None:
    executor = futures.ProcessPoolExecutor(1)
    executor.submit(tasks.double, 1).result()
    async with Pool(max_workers=2) as pool:
        template, _ = await pool.run(tasks.process_group)
        big = pool.submit(tasks.zeros, 4 << 20)
        await big  # so that the threads that copy are there as well
        workers = [worker.pid for worker in pool.workers()]
        helper_pid = fork(how, pool, executor, deed)
        say(" ".join(map(str, (helper_pid, template, *workers))))
        if deed != "sleep":
            _, status = await asyncio.to_thread(os.waitpid, helper_pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7, status
        # The pool knows nothing of it.
        assert await pool.gather(tasks.double, range(20)) == list(range(0, 40, 2))
        assert {worker.pid for worker in pool.workers()} == set(workers)
        assert await asyncio.to_thread(executor.submit(tasks.double, 21).result) == 42
        say("ok")
        if deed == "sleep":
            await asyncio.sleep(LONG_S)
    executor.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
