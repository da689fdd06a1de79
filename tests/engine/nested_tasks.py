"""Tasks that use pools and executors of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
from typing import Any

from lifepool import Pool
from lifepool.futures import ProcessPoolExecutor
from tests.tasks import announce, double, hold_in_c

#: As apps have it: a worker that imports this module has one too, and nobody starts it.
pool = Pool(max_workers=1)

kept: list[ProcessPoolExecutor] = []


async def _gather(numbers: list[int]) -> list[int]:
    async with Pool(max_workers=2) as inner:
        return await inner.gather(double, numbers)


def with_pool(numbers: list[int]) -> list[int]:
    return asyncio.run(_gather(numbers))


def with_lifepools_executor(numbers: list[int]) -> list[int]:
    with ProcessPoolExecutor(max_workers=2) as executor:
        return list(executor.map(double, numbers))


def with_the_standard_executor(numbers: list[int], method: str) -> list[int]:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(max_workers=2, mp_context=context) as executor:
        return list(executor.map(double, numbers))


def with_the_standard_pool(numbers: list[int], method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as standard:
        return standard.map(double, numbers)


def with_a_process(method: str) -> int | None:
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=double, args=(1,))
    process.start()
    process.join()
    code: int | None = process.exitcode
    return code


def terminate_at_once(count: int) -> list[int | None]:
    """Fork children and terminate each before it has come to anything."""
    context: Any = multiprocessing.get_context("fork")
    codes = []
    for _ in range(count):
        process = context.Process(target=_sleep)
        process.start()
        process.terminate()
        process.join(5)
        codes.append(process.exitcode)
        process.kill()
        process.join()
    return codes


def with_a_process_that_is_terminated(method: str) -> int | None:
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=multiprocessing.Event().wait if method == "fork" else _sleep)
    process.start()
    process.terminate()
    process.join()
    code: int | None = process.exitcode
    return code


def _sleep() -> None:
    import time

    time.sleep(1000)


def keep_an_executor() -> None:
    """An initializer: one for all tasks of this worker."""
    kept.append(ProcessPoolExecutor(max_workers=1))
    assert kept[0].submit(double, 4).result() == 8


def with_the_kept_executor(number: int) -> tuple[int, int]:
    return kept[0].submit(double, number).result(), kept[0].submit(os.getpid).result()


def with_a_pool_that_nobody_started() -> None:
    asyncio.run(pool.run(double, 1))


def nest(levels: int) -> int:
    """How many pools could be started inside each other."""
    if levels == 0:
        return 0
    with ProcessPoolExecutor(max_workers=1) as executor:
        return 1 + executor.submit(nest, levels - 1).result()


def hang_in_a_nested_pool(address: str) -> None:
    """Two announce themselves: this one, and the task of a pool in it."""
    executor = ProcessPoolExecutor(max_workers=1)
    future = executor.submit(hold_in_c, address)
    announce(address).close()
    future.result()
