"""What is particular to running in the caller's process."""

from __future__ import annotations

import os
import threading

import pytest

from lifepool import Pool, TaskHandle, WorkerStartError
from lifepool._core.states import TaskState
from tests import tasks


async def test_the_answer_is_there_before_submit_returns() -> None:
    async with Pool(backend="inline") as pool:
        handle = pool.submit(os.getpid)
        assert handle.done()
        assert handle.state is TaskState.COMPLETED
        assert await handle == os.getpid()


async def test_nothing_is_pickled() -> None:
    lock = threading.Lock()
    async with Pool(backend="inline") as pool:
        assert await pool.run(lambda value: value, lock) is lock


async def test_a_task_may_submit_another_one() -> None:
    async with Pool(backend="inline") as pool:
        inner = await pool.run(lambda: pool.submit(tasks.double, 4))
        assert await inner == 8


async def test_the_initializer_runs_once() -> None:
    calls: list[str] = []
    async with Pool(backend="inline", initializer=calls.append, initargs=("once",)) as pool:
        await pool.run(tasks.nothing)
        assert calls == ["once"]


async def test_an_initializer_that_fails_ends_the_start() -> None:
    pool = Pool(backend="inline", initializer=tasks.fail_to_load, initargs=("it",))
    with pytest.raises(WorkerStartError, match="no model called it"):
        await pool.start()


async def test_progress_of_nested_tasks_goes_to_their_own_handles() -> None:
    async with Pool(backend="inline") as pool:

        def outer() -> TaskHandle[object]:
            tasks.report_and_return("outer, first")
            inner = pool.submit(tasks.report_and_return, "inner")
            tasks.report_and_return("outer, last")
            return inner

        handle = pool.submit(outer)
        inner = await handle
        assert await inner == "inner"
        assert (handle.progress, inner.progress) == ("outer, last", "inner")
