"""A task that takes too long, or that nobody waits for any more, is broken off; nobody else notices."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import psutil
import pytest

from lifepool import Pool, TaskTimeout
from lifepool._core import policy
from lifepool._core.states import TaskState
from tests import tasks
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.faults.inside import let_time_pass

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHORT = 0.1  # seconds; what is timed out here would go on for ever
LONG = 100.0  # seconds that pass on the pool's clock alone, when the task is known to run

SOFT = [tasks.hold_in_python, tasks.hold_in_sleep, tasks.hold_in_regex]
HARD = [tasks.hold_in_c, tasks.hold_stubbornly]


def be_patient_with(function: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill no worker that is only slow to give in."""
    if function in SOFT:
        monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)


@pytest.mark.all_loops
@pytest.mark.parametrize("function", [*SOFT, *HARD])
async def test_a_timeout_ends_any_task(
    function: Callable[[str], None], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient_with(function, monkeypatch)
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(function, gate.address, timeout=LONG)
        visitor = await gate.arrival()
        let_time_pass(pool, LONG)
        with pytest.raises(TaskTimeout) as caught:
            await handle
        assert caught.value.started
        assert handle.state is TaskState.TIMED_OUT
        # It really is over: the next task gets the worker, or its successor.
        survivor = await pool.run(os.getpid)
        assert (survivor == visitor.pid) is (function in SOFT)
        await visitor.gone()
        numbers = pool.statistics()
    assert (numbers.timed_out, numbers.lost) == (1, 0)


@pytest.mark.all_loops
@pytest.mark.parametrize("function", [*SOFT, *HARD])
async def test_cancelling_the_awaiting_coroutine_ends_any_task(
    function: Callable[[str], None], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient_with(function, monkeypatch)
    async with Pool(max_workers=1) as pool:
        waiting = asyncio.ensure_future(pool.run(function, gate.address))
        visitor = await gate.arrival()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        survivor = await pool.run(os.getpid)
        assert (survivor == visitor.pid) is (function in SOFT)
        await visitor.gone()
        assert pool.statistics().cancelled == 1


async def test_asyncio_timeout_works_on_a_run(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        running = asyncio.ensure_future(pool.run(tasks.hold_in_python, gate.address))
        visitor = await gate.arrival()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await running
        await visitor.gone()
        assert await pool.run(tasks.double, 1) == 2


async def test_the_timeout_of_the_pool_holds_for_tasks_without_their_own(gate: Gate) -> None:
    async with Pool(max_workers=1, timeout=LONG) as pool:
        limited = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        let_time_pass(pool, LONG)
        with pytest.raises(TaskTimeout):
            await limited
        unlimited = pool.submit(tasks.hold, gate.address, "late", timeout=float("inf"))
        await visitor.gone()
        visitor = await gate.arrival()
        behind = pool.submit(tasks.nothing)
        let_time_pass(pool, LONG)
        with pytest.raises(TaskTimeout):  # a whole timeout has passed, and the other one goes on
            await behind
        visitor.let_through()
        assert await unlimited == "late"


async def test_finally_blocks_run_when_a_task_is_broken_off(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    trace = tmp_path / "trace"
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(tasks.clean_up_when_broken_off, gate.address, str(trace))
        visitor = await gate.arrival()
        handle.cancel()
        assert await pool.run(os.getpid) == visitor.pid
    assert trace.read_text() == "cleaned up"


async def test_except_exception_does_not_stop_an_interrupt(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    trace = tmp_path / "trace"
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(tasks.catch_exceptions, gate.address, str(trace))
        visitor = await gate.arrival()
        handle.cancel()
        assert await pool.run(os.getpid) == visitor.pid
    assert not trace.exists()


async def test_neighbours_are_untouched(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        neighbour = pool.submit(tasks.hold, gate.address, "fine")
        quiet = await gate.arrival()
        handle = pool.submit(tasks.hold_in_c, gate.address, timeout=LONG)
        killed = await gate.arrival()
        let_time_pass(pool, LONG)
        with pytest.raises(TaskTimeout):
            await handle
        await killed.gone()
        assert neighbour.state is TaskState.RUNNING
        quiet.let_through()
        assert await neighbour == "fine"
        await until(lambda: sum(pool.statistics().restarts.values()) == 1)


async def test_tasks_behind_one_that_hangs_go_elsewhere(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        await asyncio.gather(*(pool.submit(tasks.perform, "nothing", n) for n in range(50)))
        hanging = pool.submit(tasks.perform, "hold", gate.address)
        rest = [pool.submit(tasks.perform, "nothing", number) for number in range(20)]
        assert await asyncio.gather(*rest) == list(range(20))
        assert hanging.state is TaskState.RUNNING
        (await gate.arrival()).let_through()
        await hanging


async def test_a_pipelined_task_that_is_cancelled_does_not_take_its_worker_along(
    gate: Gate,
) -> None:
    async with Pool(max_workers=1) as pool:
        async with asyncio.timeout(PATIENCE_S):
            while True:  # until the pool knows them as short: on a busy machine one may seem long
                await asyncio.gather(*(pool.submit(tasks.perform, "nothing", n) for n in range(50)))
                handles = [pool.submit(tasks.perform, "nothing", number) for number in range(8)]
                if pool.statistics().running > 1:
                    break
                await asyncio.gather(*handles)
        for handle in handles[1::2]:
            handle.cancel()
        kept = handles[::2]
        assert await asyncio.gather(*kept) == [0, 2, 4, 6]
        assert await pool.run(tasks.double, 2) == 4


async def test_an_abandoned_task_goes_on_and_its_answer_is_dropped(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(tasks.hold, gate.address, on_cancel="abandon")
        visitor = await gate.arrival()
        handle.cancel()
        follower = pool.submit(os.getpid)
        assert handle.state is TaskState.CANCELLED
        assert psutil.Process(visitor.pid).is_running()
        visitor.let_through()
        assert await follower == visitor.pid
        assert not pool.statistics().restarts


async def test_an_abandoned_task_that_still_waits_is_dropped(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        held = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        waiting = pool.submit(tasks.hold, gate.address, on_cancel="abandon")
        waiting.cancel()
        visitor.let_through()
        await held
        await pool.run(tasks.nothing)
        assert gate.nobody_came()


async def test_cancelling_all_of_a_burst_leaves_the_pool_well() -> None:
    async with Pool(max_workers=2) as pool:
        handles = [pool.submit(tasks.echo, number) for number in range(500)]
        await handles[10]
        for handle in handles:
            handle.cancel()
        await asyncio.gather(*handles, return_exceptions=True)
        await until(lambda: pool.statistics().running == 0)
        assert await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(50))) == list(range(50))


async def test_a_late_interrupt_does_not_hit_the_next_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancel at the very moment the answer is on its way, many times over."""
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        for _ in range(200):
            handle = pool.submit(tasks.nothing)
            follower = pool.submit(tasks.double, 21)
            await asyncio.sleep(0)
            handle.cancel()
            assert await follower == 42
        assert await pool.run(os.getpid) == pid
