"""Pools and executors inside of tasks, and inside of those."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lifepool import Pool, PoolClosed
from lifepool._core import policy
from lifepool._inside import state
from lifepool.futures import ProcessPoolExecutor
from tests.engine import nested_tasks
from tests.engine.gates import PATIENCE_S
from tests.engine.scripts import run_script, talking_to
from tests.gone import still_there

if TYPE_CHECKING:
    from tests.engine.gates import Gate

METHODS = ["fork", "spawn", "forkserver"]


async def test_a_task_may_use_a_pool_or_an_executor_of_its_own() -> None:
    async with Pool(max_workers=1) as pool:
        for function in (nested_tasks.with_pool, nested_tasks.with_lifepools_executor):
            assert await pool.run(function, [1, 2, 3]) == [2, 4, 6]


@pytest.mark.parametrize("method", METHODS)
async def test_and_those_of_the_standard_library(method: str) -> None:
    async with Pool(max_workers=1) as pool:
        for function in (nested_tasks.with_the_standard_executor, nested_tasks.with_the_standard_pool):
            assert await pool.run(function, [1, 2, 3], method) == [2, 4, 6]
        assert await pool.run(nested_tasks.with_a_process, method) == 0
        assert await pool.run(nested_tasks.with_a_process_that_is_terminated, method) == -signal.SIGTERM


async def test_a_forked_child_that_is_terminated_at_once_ends() -> None:
    async with Pool(max_workers=1) as pool:
        assert await pool.run(nested_tasks.terminate_at_once, 5) == [-signal.SIGTERM] * 5


def test_so_may_a_task_of_the_executor() -> None:
    with ProcessPoolExecutor(max_workers=1) as executor:
        assert executor.submit(nested_tasks.with_pool, [1, 2]).result() == [2, 4]


async def test_an_initializer_may_start_one_for_all_tasks() -> None:
    async with Pool(max_workers=1, initializer=nested_tasks.keep_an_executor) as pool:
        first, pid = await pool.run(nested_tasks.with_the_kept_executor, 1)
        assert (first, await pool.run(nested_tasks.with_the_kept_executor, 2)) == (2, (4, pid))


async def test_a_pool_of_the_module_that_nobody_started_here_is_said_to_be_that() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(PoolClosed, match=r"never started.*this is a worker.*its own copy"):
            await pool.run(nested_tasks.with_a_pool_that_nobody_started)


async def test_there_is_an_end_to_nesting() -> None:
    async with Pool(max_workers=1) as pool:
        assert await pool.run(nested_tasks.nest, state.MOST_NESTED - 1) == state.MOST_NESTED - 1
        with pytest.raises(PoolClosed, match=f"nested {state.MOST_NESTED} deep"):
            await pool.run(nested_tasks.nest, state.MOST_NESTED)


@pytest.mark.parametrize("code", ["unguarded_module.what_happened)", "unguarded_module.Argument.refusal, ARGUMENT)"])
def test_a_module_that_starts_one_at_its_import_is_refused_in_workers(code: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from lifepool import Pool\n"
        "async def main():\n"
        "    from tests.engine import unguarded_module\n"
        "    assert unguarded_module.refusal == 'none'\n"
        "    async with Pool(max_workers=1) as pool:\n"
        f"        print(await pool.run({code.replace('ARGUMENT', 'unguarded_module.Argument()')})\n"
        "asyncio.run(main())\n"
    )
    done = run_script("-c", program)
    assert done.code == 0, done.text
    assert "can't be started while a worker imports the module" in done.out
    assert done.left_nothing


@pytest.mark.parametrize("victim", ["server", "outer worker", "inner template"])
def test_what_belongs_to_a_worker_dies_with_it(victim: str) -> None:
    with talking_to("nested.py") as script:
        assert script.stdout is not None
        pids = list(map(int, script.stdout.readline().split()))
        worker, template, inner = map(psutil.Process, pids)
        killed: Any = {"server": script, "outer worker": worker, "inner template": template}[victim]
        os.kill(killed.pid, signal.SIGKILL)
        rest = [inner] if victim == "inner template" else [worker, template, inner]
        assert still_there(rest, PATIENCE_S) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_a_task_that_is_broken_off_takes_along_its_pool(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(nested_tasks.hang_in_a_nested_pool, gate.address)
        pids = {(await gate.arrival()).pid, (await gate.arrival()).pid}
        (worker,) = (each.pid for each in pool.workers())
        (inner,) = map(psutil.Process, pids - {worker})
        handle.cancel()
        assert await pool.run(os.getpid) == worker
        assert still_there([inner], PATIENCE_S) == []
        assert await pool.run(nested_tasks.with_pool, [1]) == [2]
