"""A pool with thousands of waiting tasks ends, and the event loop has its turns meanwhile."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lifepool import Pool, PoolClosed
from lifepool._core.policy import SETTLED_AT_ONCE
from lifepool._engine import lifecycle
from tests import tasks
from tests.engine.gates import PATIENCE_S, Gate

WAITING = 6 * SETTLED_AT_ONCE


@pytest.mark.all_loops
async def test_a_pool_with_many_waiting_tasks_settles_some_in_each_turn(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(max_workers=1, max_queue=WAITING)
    await pool.start()
    handles = [pool.submit(tasks.hold, gate.address)]
    await gate.arrival()
    handles += [pool.submit(tasks.double, number) for number in range(WAITING)]
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1

    for handle in handles:
        handle.add_done_callback(count)
    turns: list[int] = []  # how many were done in each

    async def watch() -> None:
        while done < len(handles):
            before = done
            await asyncio.sleep(0)
            turns.append(done - before)

    watching = asyncio.create_task(watch())
    with caplog.at_level(logging.WARNING, "lifepool"):
        await pool.aclose(0)
    await asyncio.wait_for(watching, PATIENCE_S)
    assert max(turns) <= SETTLED_AT_ONCE + 1
    assert turns.count(0) > 0, "the loop had turns of its own"
    assert {type(handle.exception()) for handle in handles} == {PoolClosed}
    assert f"double ({WAITING} times)" in caplog.text
    assert pool.statistics().queued == 0


async def test_what_is_left_when_the_end_has_waited_long_enough_gets_its_outcome(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lifecycle, "REAP_S", 0.0)
    pool = Pool(max_workers=1, max_queue=WAITING)
    await pool.start()
    handles = [pool.submit(tasks.hold, gate.address)]
    await gate.arrival()
    handles += [pool.submit(tasks.double, number) for number in range(WAITING)]
    closing = asyncio.create_task(pool.aclose(PATIENCE_S))
    await asyncio.sleep(0)
    with caplog.at_level(logging.WARNING, "lifepool"):
        for each in asyncio.all_tasks() - {asyncio.current_task()}:  # as the end of an event loop does
            each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert {type(handle.exception()) for handle in handles} == {PoolClosed}
    assert (pool.statistics().queued, pool.statistics().cancelled) == (0, len(handles))
    assert f"double ({WAITING} times)" in caplog.text


async def test_the_log_counts_what_callers_gave_up_because_others_were_cancelled(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(max_workers=1, max_queue=WAITING)
    await pool.start()
    held = pool.submit(tasks.hold, gate.address)
    await gate.arrival()

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(WAITING):
                group.create_task(pool.run(tasks.double, number))

    working = asyncio.create_task(together())
    for _ in range(2):  # the group begins, then its tasks do
        await asyncio.sleep(0)
    assert pool.statistics().queued == WAITING
    with caplog.at_level(logging.INFO, "lifepool"):
        await pool.aclose(0)
        with pytest.raises(ExceptionGroup):
            await working
    assert isinstance(held.exception(), PoolClosed)
    assert f"double ({WAITING} times)" in caplog.text
    assert "drains" not in caplog.text, "it waits for nothing"
