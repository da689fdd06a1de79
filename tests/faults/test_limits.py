"""At the edges of what is allowed: sizes, memory, a very long queue, replacing workers while they are needed."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import signal
import time
from typing import TYPE_CHECKING

import pytest

from lifepool import BackendUnsupported, PayloadTooLarge, Pool, PoolClosed, WorkerLost
from lifepool._host.oom import OomWatch
from tests import tasks
from tests.engine.gates import Gate, until
from tests.faults import harmful_tasks
from tests.faults.inside import backend_of
from tests.stress.footprint import Footprint

if TYPE_CHECKING:
    from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20


def pickled_to(size: int) -> bytes:
    """Bytes whose pickle has exactly this size; what pickle adds depends a little on it."""
    for added in range(64):
        value = bytes(size - added)
        if len(pickle.dumps(value, 5)) == size:
            return value
    raise AssertionError(f"nothing has a pickle of {size} bytes")


@pytest.mark.parametrize("limit", [4 * KIB, 100 * KIB, 5 * MIB])
async def test_a_result_of_exactly_the_limit_arrives_and_one_byte_more_does_not(limit: int) -> None:
    async with Pool(max_workers=1, max_payload=limit) as pool:
        value = pickled_to(limit)
        assert await pool.run(tasks.zeros, len(value)) == value
        with pytest.raises(PayloadTooLarge) as caught:
            await pool.run(tasks.zeros, len(value) + 1)
        assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
        assert await pool.run(tasks.zeros, 0) == b""


async def test_of_an_exception_above_the_limit_what_fits_is_sent() -> None:
    async with Pool(max_workers=1, max_payload=64 * KIB) as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(ValueError, match="xxx") as caught:
            await pool.run(harmful_tasks.raise_much, 8 * MIB)
        assert len(pickle.dumps(caught.value)) < 64 * KIB
        assert "lost on the way" in str(caught.value.__cause__)
        assert await pool.run(os.getpid) == pid


async def test_a_hundred_thousand_queued_tasks_fit_into_memory_and_are_all_answered(gate: Gate) -> None:
    count = 100_000
    async with Pool(max_workers=1, max_queue=count) as pool:
        held = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        before = Footprint.settled().rss
        handles = [pool.submit(tasks.double, number) for number in range(count)]
        each = (Footprint.settled().rss - before) / count
        assert pool.statistics().queued == count
        assert each < 2 * KIB, f"a queued task takes {each:.0f} bytes"
        visitor.let_through()
        await held
        assert await asyncio.gather(*handles) == list(range(0, 2 * count, 2))


async def test_a_worker_above_its_memory_is_replaced_after_the_task_and_the_answer_counts() -> None:
    async with Pool(max_workers=1, max_worker_memory=128 * MIB) as pool:
        pid = await pool.run(harmful_tasks.keep, 150 * MIB)
        assert await pool.run(os.getpid) != pid
        await until(lambda: pool.statistics().restarts == {"max_worker_memory": 1})
        assert pool.statistics().lost == 0


async def test_an_allocation_past_the_hard_limit_is_an_error_in_the_task_alone() -> None:
    async with Pool(max_workers=1, max_worker_memory=128 * MIB) as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(MemoryError):
            await pool.run(harmful_tasks.allocate, 512 * MIB)
        assert await pool.run(os.getpid) == pid


async def test_workers_are_replaced_one_after_another_without_a_dip_in_capacity() -> None:
    """At each answer, count the workers that can take tasks. A machine that stands still once spoils a round."""
    rounds = 5
    while (full := await _full_capacity()) <= 0.9 and (rounds := rounds - 1):
        pass
    assert full > 0.9, f"full capacity at {full:.0%} of the answers"


async def _full_capacity() -> float:
    """The share of the answers at which all workers were there."""
    workers, able, total = 2, [], []
    async with Pool(max_workers=workers, max_tasks_per_worker=50) as pool:
        left = itertools.repeat(None, 300)

        async def client() -> None:
            for _ in left:
                await pool.run(time.sleep, 0.01)
                now = pool.statistics().workers
                able.append(now.get("ready", 0) + now.get("busy", 0))
                total.append(sum(now.values()))

        await asyncio.gather(*(client() for _ in range(4)))
        assert pool.statistics().restarts["max_tasks_per_worker"] >= 4
    assert max(total) <= 2 * workers
    return sum(count >= workers for count in able) / len(able)


async def test_all_workers_are_replaced_under_load_and_no_task_is_lost() -> None:
    async with Pool(max_workers=2) as pool:
        before = {worker.pid for worker in pool.workers()}
        answered = 0

        async def client(recycled: asyncio.Task[None]) -> None:
            nonlocal answered
            while not recycled.done():
                assert await pool.run(tasks.double, 21) == 42
                answered += 1
                now = pool.statistics().workers
                assert now.get("ready", 0) + now.get("busy", 0) >= 2

        recycled = asyncio.create_task(pool.recycle())
        await asyncio.gather(recycled, *(client(recycled) for _ in range(4)), pool.recycle())
        await until(lambda: pool.statistics().restarts == {"recycled": 2})
        assert before.isdisjoint(worker.pid for worker in pool.workers())
        assert answered


async def test_only_a_running_pool_of_processes_can_replace_its_workers() -> None:
    pool = Pool(max_workers=1)
    with pytest.raises(PoolClosed):
        await pool.recycle()
    async with Pool(backend="inline") as inline:
        with pytest.raises(BackendUnsupported):
            await inline.recycle()
    async with pool:
        recycled = asyncio.create_task(pool.recycle())
        await asyncio.sleep(0)
    with pytest.raises(PoolClosed):
        await recycled


@pytest.mark.parametrize("happened", [True, False])
async def test_a_kill_by_the_kernel_for_memory_is_told_apart(happened: bool, gate: Gate, tmp_path: Path) -> None:
    count = tmp_path / "proc" / "vmstat"
    count.parent.mkdir()
    count.write_text("nr_free_pages 1\noom_kill 7\n")
    async with Pool(max_workers=1) as pool:
        backend_of(pool)._oom = OomWatch(tmp_path)
        handle = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        count.write_text(f"nr_free_pages 1\noom_kill {8 if happened else 7}\n")
        os.kill(visitor.pid, signal.SIGKILL)
        with pytest.raises(WorkerLost) as caught:
            await handle
        assert caught.value.oom_suspected is happened
        assert ("max_worker_memory" in str(caught.value)) is happened
        assert list(pool.statistics().restarts) == ["out of memory" if happened else "died"]


async def test_readiness_is_red_while_no_worker_comes_up_and_green_again(tmp_path: Path) -> None:
    cause = tmp_path / "cause"
    options = {"initializer": harmful_tasks.die_while_loading_if_told_to, "initargs": (str(cause),)}
    async with Pool(max_workers=1, **options) as pool:  # type: ignore[arg-type]
        assert pool.readiness().ready
        pid = await pool.run(os.getpid)
        cause.write_text("")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.readiness().reasons == ("crash-looping",))
        cause.unlink()
        await until(lambda: pool.readiness().ready)
        assert await pool.run(tasks.double, 21) == 42
