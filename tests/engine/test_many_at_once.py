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
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "REAP_S", 0.0)
    pool = Pool(max_workers=1, max_queue=WAITING)
    await pool.start()
    handles = [pool.submit(tasks.hold, gate.address)]
    await gate.arrival()
    handles += [pool.submit(tasks.double, number) for number in range(WAITING)]
    await pool.aclose(0)
    assert {type(handle.exception()) for handle in handles} == {PoolClosed}
