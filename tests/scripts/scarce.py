"""A server on a machine that has no more of something for a while; says ``ok`` if its pool came through.

It limits itself, and itself alone: no other process feels anything of it.
"""

import asyncio
import os
import resource
import sys

import pytest

from lifepool import Pool, WorkerStartError
from tests import tasks

BOUND_S = 20.0


LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)


def take_descriptors(leave: int = 0) -> list[int]:
    """Take all but so many of the descriptors that this process may have."""
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, LIMITS[1]))
    taken = []
    while True:
        try:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            break
    for fd in taken[:leave]:
        os.close(fd)
    return taken[leave:]


def give_back(taken: list[int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, LIMITS)
    for fd in taken:
        os.close(fd)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def open_descriptors_at_rest() -> int:
    """How many there are once all is imported and the standard library's helper runs."""
    async with Pool(max_workers=1):
        pass
    return open_descriptors()


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


def failed_starts(pool: Pool) -> int:
    return pool.statistics().restarts.get("failed to start", 0)


async def while_the_pool_grows(leave: int) -> None:
    """No descriptor is left when a second worker is wanted; later there are some again."""
    fifo = f"/tmp/lifepool-scarce-{os.getpid()}"
    os.mkfifo(fifo)
    before = await open_descriptors_at_rest()
    try:
        async with Pool(max_workers=2, min_workers=1) as pool:
            held = pool.submit(tasks.read_line, fifo)  # until somebody writes
            taken = take_descriptors(leave)
            other = pool.submit(tasks.double, 21)
            await until(lambda: failed_starts(pool) >= 2)
            give_back(taken)
            assert await asyncio.wait_for(other, BOUND_S) == 42
            assert sum(pool.statistics().workers.values()) == 2
            with open(fifo, "w") as stream:
                stream.write("through\n")
            assert await asyncio.wait_for(held, BOUND_S) == "through\n"
            assert await pool.run(tasks.double, 1) == 2
    finally:
        os.unlink(fifo)
    assert open_descriptors() == before


async def at_the_start(leave: int) -> None:
    """No descriptor is left when the pool starts: it says so; later it starts."""
    before = await open_descriptors_at_rest()
    pool = Pool(max_workers=1)
    taken = take_descriptors(leave)
    try:
        with pytest.raises(WorkerStartError, match="Too many open files") as caught:
            await asyncio.wait_for(pool.start(), BOUND_S)
    finally:
        give_back(taken)
    assert "limit of open files" in caught.value.hint
    assert open_descriptors() == before
    async with pool:
        assert await pool.run(tasks.double, 21) == 42


async def at_the_first_start(leave: int) -> None:
    """The same in a program that has not yet loaded what a pool needs."""
    pool = Pool(max_workers=1)
    taken = take_descriptors(leave)
    try:
        with pytest.raises(WorkerStartError, match="Too many open files") as caught:
            await asyncio.wait_for(pool.start(), BOUND_S)
    finally:
        give_back(taken)
    assert "limit of open files" in caught.value.hint
    async with pool:
        assert await pool.run(tasks.double, 21) == 42


async def while_big_payloads_go_by(leave: int = 0) -> None:
    """Nothing that a task needs takes a descriptor."""
    big, text = bytes(range(256)) * 20_000, "ö" * 9_000_000
    async with Pool(max_workers=1) as pool:
        taken = take_descriptors(leave)
        assert await pool.run(tasks.echo, big) == big
        assert await pool.run(tasks.echo, text) == text
        give_back(taken)


MODES = {
    "grow": while_the_pool_grows,
    "start": at_the_start,
    "first": at_the_first_start,
    "big": while_big_payloads_go_by,
}

if __name__ == "__main__":
    asyncio.run(MODES[sys.argv[1]](*map(int, sys.argv[2:])))
    print("ok")
