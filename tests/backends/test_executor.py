"""What is particular to running over somebody else's executor."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from lifepool import Pool, TaskTimeout, WorkerLost, WorkerStartError
from lifepool.backends.executor import ExecutorBackend
from tests import tasks
from tests.engine.gates import Gate, until


async def test_tasks_run_in_processes_of_the_standard_library() -> None:
    async with Pool(backend="executor", max_workers=2) as pool:
        pids = await pool.gather(tasks.pid_for, range(10), chunksize=1)
        assert os.getpid() not in pids
        assert len(set(pids)) <= 2


async def test_the_initializer_runs_in_each_process() -> None:
    options: dict[str, Any] = {"initializer": tasks.load, "initargs": ("model",)}
    async with Pool(backend="executor", max_workers=1, **options) as pool:
        assert (await pool.run(tasks.what_is_loaded))[1] == ["model"]


async def test_a_process_that_dies_loses_what_was_running_and_the_pool_goes_on() -> None:
    async with Pool(backend="executor", max_workers=1) as pool:
        for _ in range(2):
            with pytest.raises(WorkerLost, match="the executor broke"):
                await pool.run(tasks.exit_hard, 3)
            assert await pool.run(tasks.double, 21) == 42


async def test_a_task_that_passed_its_timeout_keeps_its_slot_until_it_returns(gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool(backend=executor, max_workers=1) as pool:
            with pytest.raises(TaskTimeout):
                await pool.run(tasks.hold, gate.address, timeout=0.05)
            waiting = pool.submit(tasks.double, 1)
            assert waiting.state.value == "queued"
            (await gate.arrival()).let_through()
            assert await waiting == 2


async def test_closing_does_not_wait_for_a_task_that_does_not_end(gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool(backend=executor, max_workers=1, drain_timeout=0.05) as pool:
            held = pool.submit(tasks.hold, gate.address)
            visitor = await gate.arrival()
        assert held.cancelled() or held.exception() is not None
        visitor.let_through()


async def test_an_executor_that_can_not_be_made_fails_the_start() -> None:
    def fail() -> Executor:
        raise OSError("no processes left")

    pool = Pool(backend=ExecutorBackend(fail, slots=1), max_workers=1)
    with pytest.raises(WorkerStartError, match="no processes left"):
        await pool.start()


async def test_an_executor_that_was_shut_down_by_somebody_else_loses_the_task() -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool(backend=executor, max_workers=1, drain_timeout=0.1) as pool:
            executor.shutdown()
            with pytest.raises(WorkerLost):
                await asyncio.wait_for(pool.run(tasks.double, 1), 20)


@pytest.mark.parametrize("slots", [1, 3])
async def test_no_more_tasks_are_given_to_it_than_it_has_slots(slots: int, gate: Gate) -> None:
    with ThreadPoolExecutor(8) as executor:
        async with Pool(backend=executor, max_workers=slots) as pool:
            handles = [pool.submit(tasks.hold, gate.address) for _ in range(slots + 2)]
            visitors = [await gate.arrival() for _ in range(slots)]
            await until(lambda: pool.statistics().running == slots)
            assert pool.statistics().queued == 2
            assert gate.nobody_came()
            for visitor in visitors:
                visitor.let_through()
            for _ in range(2):
                (await gate.arrival()).let_through()
            await asyncio.gather(*handles)


def test_it_says_what_it_can_not_do() -> None:
    can = ExecutorBackend.of_processes(4).capabilities
    assert (can.slots, can.max_workers) == (4, 1)
    missing = (can.kill, can.interrupt, can.retract, can.progress, can.crash_isolation)
    assert not any(missing)
