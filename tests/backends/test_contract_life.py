"""What holds for the life of a pool on every backend; see `test_contract`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from lifepool import Pool, PoolClosed
from lifepool._core.states import PoolState, TaskState
from tests import tasks
from tests.backends.needs import needs, needs_concurrency
from tests.engine.gates import Gate, until


async def test_a_pool_that_was_never_started_says_how_to_start_it(pool: Pool) -> None:
    assert pool.state is PoolState.CREATED
    with pytest.raises(PoolClosed, match=r"never started .*lifespan=pool\.lifespan"):
        await pool.run(tasks.nothing)
    await pool.aclose()
    await pool.drain()
    assert pool.state is PoolState.CREATED


async def test_a_closed_pool_takes_no_tasks(pool: Pool) -> None:
    async with pool:
        assert pool.state is PoolState.RUNNING
    assert pool.state.value == "closed"
    with pytest.raises(PoolClosed, match="the pool is closed"):
        await pool.run(tasks.nothing)


async def test_a_closed_pool_can_be_started_again(backend: Any) -> None:
    if not isinstance(backend, str):
        pytest.skip("an executor that was shut down stays so")
    pool = Pool(backend=backend, max_workers=1)
    for _ in range(2):
        async with pool:
            assert await pool.run(tasks.double, 3) == 6
            assert pool.statistics().submitted == 1  # counts are since the start


async def test_a_pool_may_be_closed_twice(pool: Pool) -> None:
    await pool.start()
    await pool.start()  # nor does this do harm
    await pool.aclose()
    await pool.aclose()
    assert pool.state is PoolState.CLOSED


async def test_a_pool_may_be_closed_by_two_at_once(pool: Pool) -> None:
    await pool.start()
    await asyncio.gather(pool.aclose(), pool.aclose(), pool.drain())
    assert pool.state is PoolState.CLOSED


async def test_a_pool_may_be_closed_while_it_starts(pool: Pool) -> None:
    starting = asyncio.ensure_future(pool.start())
    await asyncio.sleep(0)  # let it begin
    await pool.aclose()
    with contextlib.suppress(PoolClosed):  # a quick one was up already
        await starting
    assert pool.state.value == "closed"


async def test_cancelling_the_start_ends_what_was_started(pool: Pool) -> None:
    starting = asyncio.ensure_future(pool.start())
    await asyncio.sleep(0)
    if not starting.cancel():
        await pool.aclose()
        pytest.skip("this backend starts at once")
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert pool.state is PoolState.CLOSED


async def test_the_outermost_of_nested_with_blocks_closes(pool: Pool) -> None:
    async with pool:
        async with pool:
            assert await pool.run(tasks.double, 1) == 2
        assert pool.state.value == "running"
        assert await pool.run(tasks.double, 1) == 2
    assert pool.state is PoolState.CLOSED


async def test_leaving_waits_for_what_was_submitted(pool: Pool) -> None:
    async with pool:
        handles = [pool.submit(tasks.double, number) for number in range(50)]
    assert [handle.result() for handle in handles] == [2 * number for number in range(50)]


async def test_leaving_by_an_exception_closes_too(pool: Pool) -> None:
    with pytest.raises(KeyError):
        async with pool:
            raise KeyError
    assert pool.state is PoolState.CLOSED


async def test_a_draining_pool_takes_nothing_new(pool: Pool, gate: Gate) -> None:
    needs_concurrency(pool)
    async with pool:
        held = pool.submit(tasks.hold, gate.address, "held")
        visitor = await gate.arrival()
        draining = asyncio.ensure_future(pool.drain())
        await until(lambda: pool.state is PoolState.DRAINING)
        with pytest.raises(PoolClosed, match="draining"):
            pool.submit(tasks.nothing)
        visitor.let_through()
        await draining
        assert held.result() == "held"


async def test_what_is_not_finished_after_the_drain_timeout_is_cancelled(pool: Pool, gate: Gate) -> None:
    needs(pool, "kill")
    await pool.start()
    held = pool.submit(tasks.hold, gate.address)
    await gate.arrival()
    await pool.aclose(timeout=0.05)
    assert held.state is TaskState.CANCELLED
    with pytest.raises(PoolClosed, match="drain_timeout"):
        await held


async def test_two_pools_live_side_by_side(backend: Any) -> None:
    async with Pool(backend=backend, max_workers=1) as one, Pool(backend="inline") as other:
        assert await one.run(tasks.double, 1) == 2
        assert await other.run(tasks.double, 2) == 4
        assert (one.statistics().completed, other.statistics().completed) == (1, 1)


async def test_another_event_loop_is_turned_away(pool: Pool) -> None:
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(pool.run(tasks.nothing))
        except RuntimeError as error:
            raised.append(error)

    async with pool:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
    assert len(raised) == 1
    assert not isinstance(raised[0], PoolClosed)
    assert "pool.from_thread.run" in str(raised[0])


async def test_statistics_count_what_happened(pool: Pool) -> None:
    assert pool.statistics().state == "created"
    async with pool:
        await asyncio.gather(*(pool.submit(tasks.double, number) for number in range(10)))
        with pytest.raises(ValueError, match="once"):
            await pool.run(tasks.fail, "once")
        numbers = pool.statistics()
    assert (numbers.submitted, numbers.completed, numbers.failed) == (11, 10, 1)
    assert (numbers.queued, numbers.running, numbers.lost, numbers.cancelled) == (0, 0, 0, 0)
    assert numbers.wait.count == numbers.run.count == 11
    assert 0 < numbers.utilisation <= 1
    assert numbers.as_dict()["state"] == "running"
    assert pool.statistics().state == "closed"
