"""Start-up: what runs once in each worker, and what happens if it fails or hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskNotPicklable, WorkerStartError
from tests import tasks
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 20.0  # for what must not take for ever; a start takes a tenth of a second


async def start_error(**options: Any) -> WorkerStartError:
    """The error of a pool that can't start; a second start is no better, and leaves as little behind."""
    pool = Pool(max_workers=2, **options)
    for _ in range(2):
        with pytest.raises(WorkerStartError) as caught:
            await asyncio.wait_for(pool.start(), BOUND_S)
        assert pool.state.value == "closed"
    return caught.value


async def test_the_initializer_runs_once_in_each_worker(gate: Gate) -> None:
    async with Pool(max_workers=2, initializer=tasks.load, initargs=("model",)) as pool:
        handles = [pool.submit(tasks.hold_and_tell_what_is_loaded, gate.address) for _ in range(2)]
        for visitor in [await gate.arrival(), await gate.arrival()]:
            visitor.let_through()
        told = await asyncio.gather(*handles)
        assert len({pid for pid, _ in told}) == 2
        assert [loaded for _, loaded in told] == [["model"], ["model"]]
        assert (await pool.run(tasks.what_is_loaded))[1] == ["model"]  # a second task, no second run
    assert tasks.loaded == []


async def test_an_initializer_may_be_named_by_a_string() -> None:
    async with Pool(max_workers=1, initializer="tests.tasks:load", initargs=("it",)) as pool:
        assert (await pool.run(tasks.what_is_loaded))[1] == ["it"]


async def test_the_initializer_runs_again_in_a_replaced_worker() -> None:
    options: dict[str, Any] = {"initializer": tasks.load, "initargs": ("model",)}
    async with Pool(max_workers=1, max_tasks_per_worker=1, **options) as pool:
        told = [await pool.run(tasks.what_is_loaded) for _ in range(2)]
    assert told[0][0] != told[1][0]
    assert told[0][1] == told[1][1] == ["model"]


async def test_an_initializer_that_fails_ends_the_start_with_its_traceback() -> None:
    error = await start_error(initializer=tasks.fail_to_load, initargs=("gpt",))
    assert "LookupError: no model called gpt" in str(error)
    assert "in fail_to_load" in str(error)
    assert "initializer" in error.hint


async def test_an_initializer_that_exits_ends_the_start() -> None:
    error = await start_error(initializer=tasks.exit_while_loading)
    assert "SystemExit: can't load" in str(error)


async def test_an_initializer_that_dies_ends_the_start() -> None:
    error = await start_error(initializer=tasks.die_while_loading)
    assert error.cause == "its process ended before its first task: exited with code 9"
    assert "initializer" in error.hint


async def test_an_initializer_that_hangs_ends_the_start_after_start_timeout() -> None:
    error = await start_error(initializer=tasks.hang_while_loading, start_timeout=0.3)
    assert "start_timeout (0.3 s)" in error.cause
    assert "hangs" in error.hint


async def test_an_initializer_that_can_not_be_sent_is_refused() -> None:
    pool = Pool(max_workers=1, initializer=lambda: None)
    with pytest.raises(TaskNotPicklable):
        await pool.start()
    assert pool.state.value != "running"


async def test_preloaded_modules_are_there_before_the_first_task() -> None:
    async with Pool(max_workers=1, preload=["colorsys"]) as pool:
        assert not await pool.run(tasks.is_imported, "asyncio"), "a worker is to stay light"
        assert await pool.run(tasks.is_imported, "colorsys")
    async with Pool(max_workers=1) as pool:
        assert not await pool.run(tasks.is_imported, "colorsys")


async def test_a_preload_that_does_not_exist_ends_the_start() -> None:
    error = await start_error(preload=["no_such_module_anywhere"])
    assert "No module named 'no_such_module_anywhere'" in str(error)
    assert "preload" in error.hint


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


async def test_a_preload_that_raises_ends_the_start_with_its_traceback(
    module_folder: Path,
) -> None:
    (module_folder / "raising_preload.py").write_text("raise SystemExit('not today')\n")
    error = await start_error(preload=["raising_preload"])
    assert "SystemExit: not today" in str(error)
    assert "raising_preload.py" in str(error)


async def test_a_preload_that_hangs_ends_the_start_after_start_timeout(module_folder: Path) -> None:
    (module_folder / "hanging_preload.py").write_text("import time\ntime.sleep(10_000)\n")
    error = await start_error(preload=["hanging_preload"], start_timeout=0.5)
    assert "start_timeout" in str(error)


async def test_a_preload_that_ends_the_template_does_not_hang_the_start(
    module_folder: Path,
) -> None:
    (module_folder / "exiting_preload.py").write_text("import os\nos._exit(4)\n")
    error = await start_error(preload=["exiting_preload"], start_timeout=5)
    assert "template" in str(error)


async def test_a_pool_whose_start_failed_can_be_started_when_the_cause_is_gone(
    tmp_path: Path,
) -> None:
    cause = tmp_path / "cause"
    cause.write_text("")
    pool = Pool(max_workers=1, initializer=tasks.fail_while_file_exists, initargs=(str(cause),))
    with pytest.raises(WorkerStartError, match="the cause is still there"):
        await pool.start()
    cause.unlink()
    async with pool:
        assert await pool.run(tasks.double, 1) == 2


async def test_a_running_pool_whose_workers_can_not_start_any_more_says_so_and_heals(
    tmp_path: Path,
) -> None:
    cause = tmp_path / "cause"
    options: dict[str, Any] = {
        "initializer": tasks.fail_while_file_exists,
        "initargs": (str(cause),),
    }
    async with Pool(max_workers=1, max_tasks_per_worker=1, **options) as pool:
        cause.write_text("")
        assert await pool.run(tasks.double, 1) == 2  # the last one of the only worker
        with pytest.raises(WorkerStartError, match="the cause is still there"):
            await asyncio.wait_for(pool.run(tasks.double, 2), BOUND_S)
        with pytest.raises(WorkerStartError, match="the cause is still there"):
            pool.submit(tasks.double, 3)
        cause.unlink()
        await until(lambda: pool.statistics().workers == {"ready": 1})
        assert await pool.run(tasks.double, 4) == 8


async def test_closing_does_not_wait_for_a_start_that_hangs() -> None:
    pool = Pool(max_workers=1, initializer=tasks.hang_while_loading)
    starting = asyncio.ensure_future(pool.start())
    await until(lambda: pool.statistics().workers == {"starting": 1})
    await asyncio.wait_for(pool.aclose(), BOUND_S)
    assert await asyncio.wait([starting], timeout=BOUND_S)
    assert starting.exception() is not None
    assert pool.state.value == "closed"


async def test_cancelling_a_start_that_hangs_leaves_nothing() -> None:
    pool = Pool(max_workers=2, initializer=tasks.hang_while_loading)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.start(), 0.3)
    assert pool.state.value == "closed"
