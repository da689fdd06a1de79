"""Tasks that mean harm, or do it by accident: theirs is the damage, the pool goes on."""

from __future__ import annotations

import asyncio
import os
import sys
from types import NoneType
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskError, TaskTimeout, WorkerLost
from lifepool._core import policy
from tests import tasks
from tests.engine.gates import PATIENCE_S
from tests.faults.inside import let_time_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.gates import Gate


@pytest.mark.parametrize("function", [tasks.close_all_descriptors, tasks.write_garbage_to_sockets])
async def test_a_task_that_breaks_its_workers_connection_is_lost_alone(
    function: Callable[[], None], gate: Gate
) -> None:
    async with Pool(max_workers=2) as pool:
        neighbour = pool.submit(tasks.hold, gate.address, "fine")
        visitor = await gate.arrival()
        with pytest.raises(WorkerLost):
            await pool.run(function)
        assert await pool.gather(tasks.double, range(50)) == list(range(0, 100, 2))
        visitor.let_through()
        assert await neighbour == "fine"


async def test_garbage_on_the_wire_is_named_as_the_reason() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(WorkerLost, match="invalid data"):
            await pool.run(tasks.write_garbage_to_sockets)


async def test_an_answer_for_a_task_that_the_worker_does_not_have_costs_it_its_life() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(WorkerLost, match="it answered a task that it did not have"):
            await pool.run(tasks.answer_for_another_task)
        assert await pool.run(tasks.double, 1) == 2


@pytest.mark.parametrize("rounds", [3])
async def test_a_task_that_forks_and_returns_twice_gives_one_answer(rounds: int) -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        for _ in range(rounds):
            assert await pool.run(tasks.fork_and_return) > 0  # the parent's answer
            with pytest.raises(ValueError, match=r"^[1-9]"):
                await pool.run(tasks.fork_and_raise)
        assert await pool.run(os.getpid) == pid


async def test_threads_that_a_task_left_behind_disturb_nobody(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1) as pool:
        assert await pool.run(tasks.start_threads, 5) >= 5
        pid = await pool.run(os.getpid)
        handle = pool.submit(tasks.hold_in_python, gate.address)
        await gate.arrival()
        handle.cancel()  # an interrupt finds the right thread
        assert await pool.run(os.getpid) == pid


async def test_a_thread_that_never_ends_does_not_keep_the_pool_from_closing() -> None:
    async with Pool(max_workers=1) as pool:
        await pool.run(tasks.start_lasting_thread)
        assert await pool.run(tasks.double, 1) == 2
    assert pool.state.value == "closed"


async def test_a_task_that_ignores_all_signals_is_killed_when_its_time_is_over(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        await pool.run(tasks.ignore_all_signals)
        handle = pool.submit(tasks.hold_in_python, gate.address, timeout=30)
        await gate.arrival()
        let_time_pass(pool, 30)
        with pytest.raises(TaskTimeout):
            await handle
        assert await pool.run(os.getpid) != pid


async def test_a_task_that_prints_a_lot_does_not_disturb_its_answer(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with Pool(max_workers=1) as pool:
        assert await pool.run(tasks.print_much, 5000) == 5000
        assert await pool.run(tasks.double, 1) == 2
    out, err = capfd.readouterr()
    assert out.count("x" * 99) == err.count("x" * 99) == 5000


async def test_a_task_that_tampers_with_its_process_harms_neither_server_nor_successors() -> None:
    before = (dict(os.environ), os.getcwd(), list(sys.path))
    async with Pool(max_workers=2) as pool:
        await pool.run(tasks.tamper_with_environment)
        assert await pool.gather(tasks.double, range(20)) == list(range(0, 40, 2))
    assert (dict(os.environ), os.getcwd(), sys.path) == before


async def test_a_storm_of_hostile_tasks_leaves_the_others_their_answers() -> None:
    hostile: list[Callable[[], Any]] = [
        tasks.close_all_descriptors,
        tasks.fork_and_return,
        tasks.ignore_all_signals,
        tasks.exit_softly,
    ]
    async with Pool(max_workers=2) as pool:
        good, bad = [], []
        for number in range(100):
            good.append(pool.submit(tasks.echo, number))
            if number % 5 == 0:
                bad.append(pool.submit(hostile[number // 5 % len(hostile)]))
        assert await asyncio.gather(*good) == list(range(100))
        answers = await asyncio.gather(*bad, return_exceptions=True)
        assert {type(answer) for answer in answers} == {WorkerLost, int, NoneType, TaskError}
