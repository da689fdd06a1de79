"""A worker that dies takes along the task it had started, and nothing else."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskError, WorkerLost
from lifepool._core.states import TaskState
from tests import tasks
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEATHS: list[tuple[Callable[..., Any], tuple[Any, ...], int | None, int | None]] = [
    (tasks.exit_hard, (3,), 3, None),
    (tasks.exit_hard, (0,), 0, None),
    (tasks.exit_hard, (255,), 255, None),
    (tasks.kill_self, (signal.SIGKILL,), None, signal.SIGKILL),
    (tasks.kill_self, (signal.SIGSEGV,), None, signal.SIGSEGV),
    (tasks.read_null, (), None, signal.SIGSEGV),
    (os.abort, (), None, signal.SIGABRT),
]


@pytest.mark.parametrize(("function", "arguments", "exitcode", "signal_number"), DEATHS)
async def test_the_caller_hears_how_the_worker_died(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    exitcode: int | None,
    signal_number: int | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(function, *arguments)
        with pytest.raises(WorkerLost) as caught:
            await handle
        assert handle.state is TaskState.LOST
        lost = caught.value
        assert (lost.exitcode, lost.signal) == (exitcode, signal_number)
        assert not lost.oom_suspected
        assert lost.story
        assert str(exitcode if signal_number is None else int(signal_number)) in str(lost)
        assert await pool.run(tasks.double, 21) == 42
        numbers = pool.statistics()
        assert numbers.lost == 1
        assert sum(numbers.restarts.values()) == 1
    capfd.readouterr()  # the interpreter's report of the crash is not of interest here


@pytest.mark.all_loops
async def test_only_the_started_task_fails_and_the_rest_runs_elsewhere() -> None:
    async with Pool(max_workers=2) as pool:
        handles = [pool.submit(tasks.perform, "nothing", number) for number in range(50)]
        deadly = pool.submit(tasks.perform, "exit", 1)
        handles += [pool.submit(tasks.perform, "nothing", number) for number in range(50, 100)]
        assert await asyncio.gather(*handles) == list(range(100))
        with pytest.raises(WorkerLost):
            await deadly


@pytest.mark.all_loops
@pytest.mark.parametrize("position", range(8))
async def test_tasks_pipelined_around_a_deadly_one_all_complete(position: int) -> None:
    async with Pool(max_workers=1) as pool:
        # Tasks of this name are short: the pool learns it, and sends several at a time; unless this
        # process is held up for so long that the first seems to take its time.
        was_pipelined = False
        for attempt in range(1, 50):
            await asyncio.gather(*(pool.submit(tasks.perform, "nothing", n) for n in range(100)))
            handles = [
                pool.submit(tasks.perform, *(("exit", 1) if n == position else ("nothing", n))) for n in range(8)
            ]
            was_pipelined = pool.statistics().running > 1
            deadly = handles.pop(position)
            assert await asyncio.gather(*handles) == [n for n in range(8) if n != position]
            with pytest.raises(WorkerLost):
                await deadly
            assert pool.statistics().lost == attempt
            if was_pipelined:
                break
        assert was_pipelined


async def test_many_deaths_one_after_another_lose_nothing_else() -> None:
    async with Pool(max_workers=2) as pool:
        handles = [
            pool.submit(tasks.perform, *(("exit", 1) if number % 25 == 7 else ("nothing", number)))
            for number in range(200)
        ]
        answers = await asyncio.gather(*handles, return_exceptions=True)
        for number, answer in enumerate(answers):
            if number % 25 == 7:
                assert isinstance(answer, WorkerLost)
            else:
                assert answer == number
        assert pool.statistics().lost == 8


async def test_a_worker_killed_from_outside_loses_its_task_alone(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        handles = [pool.submit(tasks.hold, gate.address, number) for number in range(3)]
        visitors = [await gate.arrival(), await gate.arrival()]
        os.kill(visitors[0].pid, signal.SIGKILL)
        third = await gate.arrival()
        visitors[1].let_through()
        third.let_through()
        answers = await asyncio.gather(*handles, return_exceptions=True)
        lost = [answer for answer in answers if isinstance(answer, WorkerLost)]
        assert len(lost) == 1
        assert lost[0].signal == signal.SIGKILL
        assert answers[2] == 2


async def test_an_idle_worker_that_is_killed_is_replaced_and_nobody_notices() -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: bool(pool.statistics().restarts))
        assert await pool.run(os.getpid) != pid
        assert pool.statistics().lost == 0


async def test_ready_workers_that_are_killed_all_at_once_are_replaced_without_a_pause() -> None:
    async with Pool(max_workers=4) as pool:
        pids = {worker.pid for worker in pool.workers() if worker.pid}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: sum(pool.statistics().restarts.values()) == 4)
        assert pool.statistics().restarts == {"died": 4}
        assert await pool.run(os.getpid) not in pids
        await until(lambda: pool.statistics().workers_up == 4)
        assert pool.readiness().ready


async def test_a_task_sent_to_a_worker_at_the_moment_it_dies_is_not_lost_silently() -> None:
    async with Pool(max_workers=1) as pool:
        for _ in range(10):
            os.kill(await pool.run(os.getpid), signal.SIGKILL)
            handle = pool.submit(tasks.double, 21)  # the pool can't know yet
            (outcome,) = await asyncio.gather(handle, return_exceptions=True)
            assert outcome == 42 or (isinstance(outcome, WorkerLost) and outcome.signal == signal.SIGKILL)


async def test_retries_run_a_lost_task_again(tmp_path: Path) -> None:
    path = str(tmp_path / "tried")
    async with Pool(max_workers=1) as pool:
        assert await pool.run(tasks.die_unless_tried_before, path, retries=1) == "survived"
        assert pool.statistics().retried == 1
        assert pool.statistics().lost == 0


async def test_a_task_that_keeps_killing_workers_stops_there(tmp_path: Path) -> None:
    path = tmp_path / "tries"
    async with Pool(max_workers=2) as pool:
        with pytest.raises(WorkerLost) as caught:
            await pool.run(tasks.append_and_die, str(path), retries=2)
        assert caught.value.exitcode == 3
        assert await pool.run(tasks.double, 1) == 2
    assert path.read_text().count("tried") == 3


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (tasks.exit_softly, (3,), "SystemExit: 3"),
        (tasks.exit_softly, ("good bye",), "SystemExit: good bye"),
        (tasks.interrupt_like_ctrl_c, (), "KeyboardInterrupt"),
        (tasks.raise_base_exception, (), "GeneratorExit: not an Exception"),
    ],
)
async def test_what_would_end_a_program_ends_only_the_task(
    function: Callable[..., Any], arguments: tuple[Any, ...], message: str
) -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(TaskError, match=message) as caught:
            await pool.run(function, *arguments)
        cause = caught.value.__cause__
        assert cause is not None
        assert f"{type(cause).__name__}: {cause}".startswith(message)
        assert "tasks.py" in str(cause.__cause__)  # the worker's traceback
        assert await pool.run(os.getpid) == pid


async def test_a_death_in_a_map_is_raised_and_the_pool_goes_on() -> None:
    async with Pool(max_workers=2) as pool:
        with pytest.raises(WorkerLost):
            await pool.gather(tasks.exit_hard, [1, 2, 3], chunksize=1)
        assert await pool.gather(math.factorial, range(5)) == [1, 1, 2, 6, 24]
