"""Processes that stand still (SIGSTOP, a debugger, a frozen cgroup) or hear nothing: the pool goes on without them."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest

from lifepool import Pool, TaskTimeout
from tests import tasks
from tests.engine.gates import Gate, until
from tests.faults import harmful_tasks
from tests.faults.inside import let_time_pass, template_pid

LONG = 30.0  # seconds that pass on the pool's clock alone


async def test_an_idle_worker_that_stands_still_is_found_and_its_task_runs_elsewhere() -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGSTOP)
        assert await pool.run(os.getpid) != pid
        numbers = pool.statistics()
        assert (numbers.lost, numbers.retried) == (0, 0)
        await until(lambda: not psutil.pid_exists(pid))


async def test_a_busy_worker_that_stands_still_is_replaced_when_its_task_times_out(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        neighbour = pool.submit(tasks.hold, gate.address, "fine")
        quiet = await gate.arrival()
        stopped = pool.submit(tasks.hold, gate.address, timeout=LONG)
        visitor = await gate.arrival()
        os.kill(visitor.pid, signal.SIGSTOP)
        let_time_pass(pool, LONG)
        with pytest.raises(TaskTimeout):
            await stopped
        await visitor.gone()
        assert await pool.run(os.getpid) not in (visitor.pid, quiet.pid)
        quiet.let_through()
        assert await neighbour == "fine"


async def test_a_worker_that_goes_on_in_time_is_kept(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(tasks.hold, gate.address, "late", timeout=20)
        visitor = await gate.arrival()
        os.kill(visitor.pid, signal.SIGSTOP)
        visitor.let_through()
        os.kill(visitor.pid, signal.SIGCONT)
        assert await handle == "late"
        assert await pool.run(os.getpid) == visitor.pid


async def test_a_cancelled_task_on_a_worker_that_stands_still_frees_its_place(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        os.kill(visitor.pid, signal.SIGSTOP)
        handle.cancel()
        assert await pool.run(os.getpid) != visitor.pid
        await visitor.gone()


async def test_a_pool_whose_workers_all_stand_still_closes() -> None:
    pool = Pool(max_workers=2)
    await pool.start()
    pids = {await pool.run(os.getpid) for _ in range(10)}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    await pool.aclose()
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_template_that_stands_still_is_replaced() -> None:
    async with Pool(max_workers=1) as pool:
        pid, template = await pool.run(os.getpid), template_pid(pool)
        os.kill(template, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        assert await pool.run(os.getpid) != pid
        assert template_pid(pool) != template


async def test_a_pool_whose_template_stands_still_closes() -> None:
    async with Pool(max_workers=1) as pool:
        await pool.run(tasks.nothing)
        os.kill(template_pid(pool), signal.SIGSTOP)


async def test_a_task_that_blocks_every_signal_is_ended_by_its_timeout(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(harmful_tasks.hold_deaf, gate.address, timeout=LONG)
        visitor = await gate.arrival()
        let_time_pass(pool, LONG)
        with pytest.raises(TaskTimeout):
            await handle
        await visitor.gone()
        assert await asyncio.wait_for(pool.run(os.getpid), 20) != visitor.pid
