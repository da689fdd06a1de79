"""The local engine at work: many tasks, right answers, on every event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time

import pytest

from lifepool import Pool, PoolClosed, QueueFull, TaskTimeout
from lifepool._core.states import TaskState
from tests import tasks
from tests.engine.gates import Gate, until


@pytest.mark.all_loops
async def test_each_of_a_burst_of_tasks_gets_its_own_answer() -> None:
    async with Pool(max_workers=2, max_queue=2000) as pool:
        handles = [pool.submit(tasks.echo, number) for number in range(2000)]
        assert await asyncio.gather(*handles) == list(range(2000))
        numbers = pool.statistics()
    assert (numbers.completed, numbers.queued, numbers.running) == (2000, 0, 0)
    assert not numbers.restarts


@pytest.mark.all_loops
async def test_long_and_short_tasks_mixed_with_cancels_all_get_an_outcome() -> None:
    luck = random.Random(7)
    async with Pool(max_workers=2, max_queue=1000) as pool:
        handles = [pool.submit(tasks.zeros, luck.choice([0, 10, 100_000, 1_000_000])) for _ in range(300)]
        cancelled = luck.sample(handles, 60)
        for count, handle in enumerate(cancelled):
            if count % 10 == 0:
                await handles[count]
            handle.cancel()
        await asyncio.gather(*handles, return_exceptions=True)
        for handle in handles:
            if handle.cancelled():
                assert handle in cancelled
                assert handle.state is TaskState.CANCELLED
            else:
                assert set(handle.result()) <= {0}
        assert await pool.run(tasks.double, 4) == 8


@pytest.mark.all_loops
@pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, 5_000_000])
async def test_arguments_and_results_of_any_size_arrive_whole(size: int) -> None:
    async with Pool(max_workers=1) as pool:
        data = random.Random(size).randbytes(size)
        assert await pool.run(tasks.echo, data) == data


@pytest.mark.all_loops
async def test_large_payloads_both_ways_at_the_same_time_do_not_block_each_other() -> None:
    data = random.Random(1).randbytes(10_000_000)
    async with Pool(max_workers=2) as pool:
        for answer in await asyncio.gather(*(pool.submit(tasks.echo, data) for _ in range(6))):
            assert answer == data


async def test_a_function_and_its_state_are_fresh_each_time() -> None:
    word = ["a"]
    async with Pool(max_workers=1) as pool:
        assert await pool.run(word.copy) == ["a"]
        word.append("b")
        assert await pool.run(word.copy) == ["a", "b"]
        state = random.Random(1)
        first = await pool.run(state.random)
        assert await pool.run(state.random) == first == random.Random(1).random()


async def test_a_full_queue_refuses_and_says_when_to_come_back(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=2) as pool:
        held = [pool.submit(tasks.hold, gate.address) for _ in range(3)]
        first = await gate.arrival()
        with pytest.raises(QueueFull) as caught:
            pool.submit(tasks.hold, gate.address)
        assert caught.value.retry_after > 0
        assert pool.statistics().refused == 1
        first.let_through()
        for _ in range(2):
            (await gate.arrival()).let_through()
        await asyncio.gather(*held)
        assert await pool.run(tasks.double, 1) == 2


async def test_after_a_cold_burst_those_who_come_then_are_let_in() -> None:
    """Sixty tasks for which there is time for forty, and nothing is known of them."""
    async with Pool(max_workers=2) as pool:
        burst = [pool.submit(time.sleep, 0.3, timeout=6.0) for _ in range(60)]
        outcomes = await asyncio.gather(*burst, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
        late = [outcome for outcome in outcomes if isinstance(outcome, TaskTimeout)]
        assert len(refused) >= 20 - len(late)
        assert len(late) < 10, "those without hope are told before their time has passed"
        assert all(each.retry_after > 0 for each in refused)
        assert pool.statistics().refused == len(refused)
        assert await asyncio.gather(*(pool.run(time.sleep, 0.3, timeout=6.0) for _ in range(6))) == [None] * 6


async def test_a_higher_priority_goes_first(gate: Gate, tmp_path: object) -> None:
    order = f"{tmp_path}/order"
    async with Pool(max_workers=1) as pool:
        held = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        rest = [
            pool.submit(tasks.append_line, order, name, priority=priority)
            for name, priority in (("low", -9), ("normal", 0), ("high", 9))
        ]
        visitor.let_through()
        await asyncio.gather(held, *rest)
    with open(order) as lines:
        assert lines.read().split() == ["high", "normal", "low"]


async def test_workers_are_let_go_when_idle_and_come_back_when_needed() -> None:
    async with Pool(max_workers=2, min_workers=0, idle_timeout=0.05) as pool:
        assert sum(pool.statistics().workers.values()) == 0
        assert await pool.run(tasks.double, 2) == 4
        await until(lambda: not pool.statistics().workers)
        assert sum(pool.statistics().restarts.values()) == 1
        assert await pool.run(tasks.double, 3) == 6


async def test_a_worker_is_replaced_after_its_tasks() -> None:
    async with Pool(max_workers=1, max_tasks_per_worker=3) as pool:
        pids = [await pool.run(os.getpid) for _ in range(7)]
    counts = [pids.count(pid) for pid in dict.fromkeys(pids)]
    # A worker goes earlier if its successor is up: when it does so is tested on a clock (tests/core/test_recycler.py).
    assert max(counts) <= 3
    assert len(counts) >= 3


async def test_a_burst_over_workers_that_are_replaced_loses_nothing() -> None:
    async with Pool(max_workers=2, max_tasks_per_worker=20) as pool:
        handles = [pool.submit(tasks.echo, number) for number in range(200)]
        assert await asyncio.gather(*handles) == list(range(200))
        assert pool.statistics().lost == 0


async def test_statistics_see_what_runs_and_what_waits(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        held = [pool.submit(tasks.hold, gate.address) for _ in range(5)]
        visitors = [await gate.arrival(), await gate.arrival()]
        numbers = pool.statistics()
        assert (numbers.running, numbers.queued) == (2, 3)
        assert numbers.workers == {"busy": 2}
        for visitor in visitors:
            visitor.let_through()
        for _ in range(3):
            (await gate.arrival()).let_through()
        await asyncio.gather(*held)
        numbers = pool.statistics()
        assert numbers.workers == {"ready": 2}
        assert numbers.bytes_sent > 5 * len(gate.address)
        assert numbers.bytes_received > 0


async def test_two_pools_of_processes_do_not_disturb_each_other() -> None:
    async with Pool(max_workers=1, name="one") as one:
        async with Pool(max_workers=1, name="two") as two:
            pids = await asyncio.gather(one.run(os.getpid), two.run(os.getpid))
            assert len(set(pids)) == 2
        assert await one.run(os.getpid) == pids[0]
        with pytest.raises(PoolClosed):
            await two.run(os.getpid)


@pytest.mark.all_loops
async def test_closing_leaves_no_process_behind() -> None:
    pool = Pool(max_workers=2)
    await pool.start()
    parent, group = await pool.run(tasks.process_group)
    assert len({parent, group, os.getpgrp()}) == 3
    await pool.aclose()
    for each in (parent, group):
        with pytest.raises(ProcessLookupError):
            os.killpg(each, 0)


async def test_closing_with_a_task_in_c_ends_at_the_drain_timeout(gate: Gate) -> None:
    pool = Pool(max_workers=1, drain_timeout=0.05)
    async with pool:
        held = pool.submit(tasks.hold_in_c, gate.address)
        queued = pool.submit(tasks.nothing)
        visitor = await gate.arrival()
    await visitor.gone()
    for handle in (held, queued):
        assert handle.state is TaskState.CANCELLED
        with pytest.raises(PoolClosed):
            await handle


async def test_a_cancelled_drain_ends_at_once(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    await pool.start()
    held = pool.submit(tasks.hold, gate.address)
    await gate.arrival()
    draining = asyncio.ensure_future(pool.drain())
    await until(lambda: pool.state.value == "draining")
    draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining
    assert pool.state.value == "closed"
    assert isinstance(held.exception(), PoolClosed)


async def test_a_pool_may_be_closed_while_a_drain_waits(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    await pool.start()
    held = pool.submit(tasks.hold, gate.address)
    await gate.arrival()
    draining = asyncio.ensure_future(pool.drain())
    await until(lambda: pool.state.value == "draining")
    await asyncio.wait_for(pool.aclose(timeout=0), 20)
    await draining
    assert isinstance(held.exception(), PoolClosed)
