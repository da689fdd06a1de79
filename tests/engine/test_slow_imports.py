"""A module that takes long to import, in real workers: no task's timeout costs a worker, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskNotPicklable, TaskTimeout, WorkerLost
from lifepool._core import policy
from tests import tasks
from tests.engine.gates import PATIENCE_S, until
from tests.engine.scheduling import scheduler_of
from tests.faults.inside import let_time_pass

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.gates import Gate

LONG = 30.0  # seconds that pass on the pool's clock alone

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


async def all_import(pool: Pool) -> None:
    """Wait until the pool knows that all its workers import something."""
    assert pool._engine is not None
    fleet = scheduler_of(pool._engine).fleet
    await until(lambda: all(worker.loading is not None for worker in fleet))


async def test_timeouts_during_imports_are_told_in_time_and_cost_no_worker(
    gate: Gate, late: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=8) as pool:
        module, before = late(), pids(pool)
        first = [pool.submit(module.work, timeout=LONG) for _ in range(8)]
        importing = [await gate.arrival() for _ in first]
        await all_import(pool)
        let_time_pass(pool, LONG)
        outcomes = await asyncio.gather(*first, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [TaskTimeout] * 8
        assert "importing" in str(outcomes[0])
        let_time_pass(pool, PATIENCE_S)  # a worker that is to be killed would be killed now
        with pytest.raises(TaskTimeout):
            await pool.run(module.work, timeout=0.6)
        for each in importing:
            each.let_through()
        assert await asyncio.gather(*(pool.run(module.work) for _ in range(16))) == ["worked"] * 16
        assert pids(pool) == before
        assert pool.statistics().restarts == {}
        assert pool.statistics().run.sum < 8 * 0.6, "the import is not taken for run time"


async def test_a_module_that_only_an_argument_needs_is_imported_in_peace_too(
    gate: Gate, late: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1) as pool:
        before = pids(pool)
        await pool.run(tasks.echo, 1)
        module = late()
        handle = pool.submit(tasks.echo, module.Thing(), timeout=LONG)
        importing = await gate.arrival()
        await all_import(pool)
        let_time_pass(pool, LONG)
        with pytest.raises(TaskTimeout, match="importing"):
            await handle
        let_time_pass(pool, PATIENCE_S)  # a worker that is to be killed would be killed now
        with pytest.raises(TaskTimeout):
            await pool.run(tasks.echo, 2, timeout=0.5)
        importing.let_through()
        assert isinstance(await pool.run(tasks.echo, module.Thing()), module.Thing)
        assert pids(pool) == before


async def test_a_gather_says_so_too_and_is_in_the_log_once(gate: Gate, late: Any) -> None:
    async with Pool(max_workers=1) as pool:
        await pool.run(tasks.echo, 1)
        module = late()
        with pytest.raises(TaskTimeout, match=r"timeout of 5 s while its worker was importing") as caught:
            await pool.gather(tasks.echo, [module.Thing()], timeout=5)
        assert caught.value._logged, "by the pool: whoever makes an answer of it need not log it again"
        (await gate.arrival()).let_through()


async def test_a_task_that_lost_its_caller_during_the_import_is_broken_off_after_it(
    gate: Gate, late: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)  # on a busy machine it gives in late
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
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)  # on a busy machine it gives in late
    async with Pool(max_workers=1) as pool:
        module, before = late("raise ImportError('no licence')"), pids(pool)
        handle = pool.submit(module.work)
        (await gate.arrival()).let_through()
        with pytest.raises(TaskNotPicklable, match="no licence"):
            await handle
        held = pool.submit(tasks.hold_in_sleep, gate.address, timeout=LONG)
        await gate.arrival()
        let_time_pass(pool, LONG)
        with pytest.raises(TaskTimeout, match="running"):
            await held
        assert await pool.run(tasks.double, 21) == 42
        assert pids(pool) == before


async def test_an_import_that_never_ends_costs_its_worker_after_start_timeout(gate: Gate, late: Any) -> None:
    async with Pool(max_workers=1, start_timeout=LONG) as pool:
        handle = pool.submit(late().work)
        await gate.arrival()
        await all_import(pool)
        let_time_pass(pool, LONG)
        with pytest.raises(WorkerLost, match="had not imported what the task needs within start_timeout"):
            await handle
        (await gate.arrival()).let_through()  # the next worker has it before it is ready
        assert await pool.run(tasks.double, 21) == 42
