"""A module that takes long to import, in real workers: no task's timeout costs a worker, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskNotPicklable, TaskTimeout, WorkerLost
from tests import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.gates import Gate

#: Imported at once in the server, and at the gate in a worker.
MODULE = """
from lifepool._inside import state
from tests import tasks

if state.is_worker:
    tasks.hold({address!r})
    {then}

def work():
    return "worked"

class Thing:
    pass
"""


@pytest.fixture
def late(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports the module in the server, once the pool is up; workers can find it."""
    monkeypatch.syspath_prepend(tmp_path)

    def imported(then: str = "pass") -> Any:
        name = f"late_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(MODULE.format(address=gate.address, then=then))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return imported


def pids(pool: Pool) -> set[int | None]:
    return {worker.pid for worker in pool.workers()}


async def test_timeouts_during_imports_are_told_in_time_and_cost_no_worker(gate: Gate, late: Any) -> None:
    async with Pool(max_workers=8) as pool:
        module, before = late(), pids(pool)
        first = [pool.submit(module.work, timeout=1.0) for _ in range(8)]
        importing = [await gate.arrival() for _ in first]
        outcomes = await asyncio.gather(*first, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [TaskTimeout] * 8
        assert "importing" in str(outcomes[0])
        with pytest.raises(TaskTimeout):  # long after the others would have been killed
            await pool.run(module.work, timeout=0.6)
        for each in importing:
            each.let_through()
        assert await asyncio.gather(*(pool.run(module.work) for _ in range(16))) == ["worked"] * 16
        assert pids(pool) == before
        assert pool.statistics().restarts == {}
        assert pool.statistics().run.sum < 1.0, "the import is not taken for run time"


async def test_a_module_that_only_an_argument_needs_is_imported_in_peace_too(gate: Gate, late: Any) -> None:
    async with Pool(max_workers=1) as pool:
        before = pids(pool)
        await pool.run(tasks.echo, 1)
        module = late()
        with pytest.raises(TaskTimeout, match="importing"):
            await pool.run(tasks.echo, module.Thing(), timeout=0.9)
        with pytest.raises(TaskTimeout):
            await pool.run(tasks.echo, 2, timeout=0.5)
        (await gate.arrival()).let_through()
        assert isinstance(await pool.run(tasks.echo, module.Thing()), module.Thing)
        assert pids(pool) == before


async def test_a_gather_says_so_too_and_is_in_the_log_once(gate: Gate, late: Any) -> None:
    async with Pool(max_workers=1) as pool:
        await pool.run(tasks.echo, 1)
        module = late()
        with pytest.raises(TaskTimeout, match=r"timeout of 0\.9 s while its worker was importing") as caught:
            await pool.gather(tasks.echo, [module.Thing()], timeout=0.9)
        assert caught.value._logged, "by the pool: whoever makes an answer of it need not log it again"
        (await gate.arrival()).let_through()


async def test_a_task_that_lost_its_caller_during_the_import_is_broken_off_after_it(
    gate: Gate, late: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifepool._core.policy.INTERRUPT_GRACE_S", 20.0)  # on a busy machine it gives in late
    async with Pool(max_workers=1) as pool:
        module, before = late(), pids(pool)
        handle = pool.submit(module.work)
        visitor = await gate.arrival()
        handle.cancel()
        visitor.let_through()
        assert await pool.run(module.work) == "worked"
        assert pids(pool) == before


async def test_an_import_that_fails_is_the_tasks_failure(
    gate: Gate, late: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifepool._core.policy.INTERRUPT_GRACE_S", 20.0)  # on a busy machine it gives in late
    async with Pool(max_workers=1) as pool:
        module, before = late("raise ImportError('no licence')"), pids(pool)
        handle = pool.submit(module.work)
        (await gate.arrival()).let_through()
        with pytest.raises(TaskNotPicklable, match="no licence"):
            await handle
        with pytest.raises(TaskTimeout, match="running"):
            await pool.run(tasks.hold_in_sleep, gate.address, timeout=0.9)
        assert await pool.run(tasks.double, 21) == 42
        assert pids(pool) == before


async def test_an_import_that_never_ends_costs_its_worker_after_start_timeout(gate: Gate, late: Any) -> None:
    async with Pool(max_workers=1, start_timeout=1.5) as pool:
        handle = pool.submit(late().work)
        await gate.arrival()
        with pytest.raises(WorkerLost, match="had not imported what the task needs within start_timeout"):
            await handle
        (await gate.arrival()).let_through()  # the next worker has it before it is ready
        assert await pool.run(tasks.double, 21) == 42
