"""`@pool.batch`: concurrent calls share a task, and each caller has its own outcome."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import (
    PayloadTooLarge,
    Pool,
    PoolClosed,
    QueueFull,
    TaskError,
    TaskNotPicklable,
    TaskTimeout,
    WorkerLost,
)
from lifepool._engine.scope import TaskScope, current_scope
from lifepool.errors import ClientDisconnected
from tests import tasks
from tests.engine import batched
from tests.engine.gates import Gate, Visitor, until
from tests.engine.scheduling import scheduler_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def together(batch: Any, *items: Any) -> list[asyncio.Future[Any]]:
    """Call a batch with each item, in one turn of the loop."""
    return [asyncio.ensure_future(batch(item)) for item in items]


@contextlib.asynccontextmanager
async def busy(pool: Pool, gate: Gate) -> AsyncIterator[Visitor]:
    """A running pool whose only worker is held at the gate."""
    async with pool:
        holding = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        yield visitor
        with contextlib.suppress(OSError):
            visitor.let_through()
        await asyncio.wait([holding])


async def outcome(call: asyncio.Future[Any]) -> Any:
    """What it returns or raises."""
    return (await asyncio.gather(call, return_exceptions=True))[0]


# --- which calls go together ----------------------------------------------------------------------------------------


@pytest.mark.all_loops
async def test_each_caller_gets_the_answer_to_its_item() -> None:
    async with batched.pool:
        assert await batched.double(4) == 8
        assert await asyncio.gather(*map(batched.double, range(100))) == list(range(0, 200, 2))


async def test_a_lone_call_does_not_wait_for_company_while_a_worker_is_free() -> None:
    async with batched.pool:
        _, size, _ = await batched.with_company("one")  # its max_wait is longer than this test may take
    assert size == 1


async def test_calls_of_one_turn_of_the_loop_go_together() -> None:
    async with batched.pool:
        answers = await asyncio.gather(*together(batched.with_company, *"abc"))
    assert [(item, size) for item, size, _ in answers] == [("a", 3), ("b", 3), ("c", 3)]


async def test_calls_collect_while_all_workers_are_busy_and_leave_when_one_is_free(gate: Gate) -> None:
    async with batched.pool:
        first = together(batched.held, (gate.address, 0))
        visitor = await gate.arrival()
        second = together(batched.held, (gate.address, 1))
        await until(lambda: batched.held.waiting == 1)
        third = together(batched.held, (gate.address, 2))
        await until(lambda: batched.held.waiting == 2)
        assert batched.pool.statistics().submitted == 1
        visitor.let_through()
        (await gate.arrival()).let_through()
        assert await asyncio.gather(*first, *second, *third) == [(0, 1), (1, 2), (2, 2)]


async def test_while_a_batch_is_under_way_the_next_waits_for_company_though_a_worker_is_free(gate: Gate) -> None:
    pool = Pool(max_workers=2)
    batch: Any = pool.batch(max_wait=60)(batched.held.function)
    async with pool:
        (first,) = together(batch, (gate.address, 1))
        visitor = await gate.arrival()
        later = together(batch, (gate.address, 2), (gate.address, 3))
        await until(lambda: batch.waiting == 2)
        assert pool.statistics().submitted == 1
        visitor.let_through()
        (await gate.arrival()).let_through()
        assert await asyncio.gather(first, *later) == [(1, 1), (2, 2), (3, 2)]


async def test_a_batch_that_has_waited_long_enough_takes_the_free_worker(gate: Gate) -> None:
    pool = Pool(max_workers=2)
    batch: Any = pool.batch(max_wait=0.01)(batched.held.function)
    async with pool:
        first = together(batch, (gate.address, 1))
        visitors = [await gate.arrival()]
        second = together(batch, (gate.address, 2))
        visitors.append(await gate.arrival())  # both are held at the same time
        for visitor in visitors:
            visitor.let_through()
        assert await asyncio.gather(*first, *second) == [(1, 1), (2, 1)]


async def test_a_full_batch_leaves_also_while_all_workers_are_busy(gate: Gate) -> None:
    async with busy(batched.pool, gate) as visitor:
        calls = together(batched.with_company, *range(4))
        await until(lambda: batched.pool.statistics().submitted == 2)
        assert batched.with_company.waiting == 0
        visitor.let_through()
        assert {size for _, size, _ in await asyncio.gather(*calls)} == {4}


async def test_a_batch_leaves_when_its_first_call_has_waited_long_enough(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    batch: Any = pool.batch(max_wait=0.02)(batched.double.function)
    async with busy(pool, gate) as visitor:
        calls = together(batch, 1, 2)
        await until(lambda: pool.statistics().submitted == 2)
        visitor.let_through()
        assert await asyncio.gather(*calls) == [2, 4]


async def test_no_more_than_two_batches_for_each_worker_are_in_the_pool(gate: Gate) -> None:
    async with busy(batched.pool, gate) as visitor:
        calls = together(batched.pairs, *range(12))
        await until(lambda: batched.pairs.waiting == 8)
        assert batched.pool.statistics().submitted == 1 + 2
        visitor.let_through()
        assert await asyncio.gather(*calls) == [2] * 12


async def test_a_pool_that_was_started_again_has_batches_again() -> None:
    for _ in range(2):
        async with batched.pool:
            assert await batched.double(1) == 2


def test_a_batch_whose_loop_is_gone_is_no_trouble_to_the_next(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    batch: Any = pool.batch(max_wait=60)(batched.double.function)

    async def leave_a_call_waiting() -> None:
        await pool.start()
        await asyncio.sleep(0)
        holding = pool.submit(tasks.hold, gate.address)
        await gate.arrival()
        (call,) = together(batch, 1)
        await until(lambda: batch.waiting == 1)
        call.cancel()
        holding.cancel()

    async def go_on() -> Any:
        async with pool:
            return await batch(2)

    asyncio.run(leave_a_call_waiting())
    assert asyncio.run(go_on()) == 4


# --- errors ---------------------------------------------------------------------------------------------------------


async def test_an_exception_in_a_results_place_is_raised_for_that_caller_alone() -> None:
    async with batched.pool:
        results = await asyncio.gather(
            *together(batched.perform, ("value", 1), ("error", "no such"), ("value", 3)), return_exceptions=True
        )
    assert results[::2] == [1, 3]
    assert isinstance(results[1], LookupError)
    assert results[1].args == ("no such",)


async def test_one_bad_item_does_not_fail_the_others() -> None:
    async with batched.pool:
        good, bad = together(batched.perform, ("value", 1), ("whole", "raise"))
        assert await good == 1
        with pytest.raises(ValueError, match="no batch of 1") as caught:
            await bad
    assert "_perform" in str(caught.value.__cause__)


async def test_without_splitting_every_caller_gets_an_exception_of_its_own() -> None:
    async with batched.pool:
        calls = together(batched.perform_whole, ("value", 1), ("whole", "raise"))
        errors = [await outcome(call) for call in calls]
    assert [str(error) for error in errors] == ["no batch of 2"] * 2
    assert errors[0] is not errors[1]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("wrong count", "_perform|perform returned 1 results for 3 items"),
        ("text", "perform returned a str for a list of 3 items"),
        ("none", "perform returned a NoneType for a list of 3 items"),
    ],
)
async def test_what_is_no_list_of_results_is_told_to_every_caller(what: str, message: str) -> None:
    async with batched.pool:
        calls = together(batched.perform, ("value", 1), ("whole", what), ("value", 2))
        for call in calls:
            with pytest.raises(TaskError, match=message) as caught:
                await call
            assert "one result for each item" in caught.value.hint


async def test_an_item_that_can_not_be_sent_fails_its_own_caller_only() -> None:
    async with batched.pool:
        good, bad, also_good = together(batched.with_company, 1, {"session": tasks.Session()}, 3)
        assert [(await good)[:2], (await also_good)[:2]] == [(1, 1), (3, 1)]
        with pytest.raises(TaskNotPicklable, match=r"^item\['session'\]\._lock can't be pickled") as caught:
            await bad
    assert caught.value.side == "arguments"
    assert caught.value.path == "item['session']._lock"


async def test_a_result_that_can_not_be_sent_fails_its_own_caller_only() -> None:
    async with batched.pool:
        good, bad = together(batched.perform, ("value", 1), ("lambda", 2))
        assert await good == 1
        with pytest.raises(TaskNotPicklable, match=r"^result can't be pickled") as caught:
            await bad
    assert caught.value.side == "result"


async def test_items_that_are_too_large_together_go_by_themselves() -> None:
    pool = Pool(max_workers=1, max_payload=10_000)
    batch: Any = pool.batch(batched.with_company.function)
    async with pool:
        results: list[Any] = await asyncio.gather(
            *together(batch, bytes(6000), bytes(7000), bytes(20_000)), return_exceptions=True
        )
    assert [len(item) for item, _, _ in results[:2]] == [6000, 7000]
    assert isinstance(results[2], PayloadTooLarge)


async def test_results_that_are_too_large_together_come_by_themselves() -> None:
    pool = Pool(max_workers=1, max_payload=10_000)
    batch: Any = pool.batch(batched.perform.function)
    async with pool:
        results = await asyncio.gather(*together(batch, ("big", 6000), ("big", 7000)))
    assert list(map(len, results)) == [6000, 7000]


async def test_when_the_worker_dies_every_caller_of_the_batch_is_told() -> None:
    async with batched.pool:
        calls = together(batched.perform, ("value", 1), ("whole", "exit"))
        errors = [await outcome(call) for call in calls]
        assert [(type(error), error.exitcode) for error in errors] == [(WorkerLost, 3)] * 2
        assert errors[0] is not errors[1]
        assert await batched.double(1) == 2


async def test_retries_run_a_batch_again_whose_worker_died(tmp_path: Path) -> None:
    async with batched.pool:
        assert await batched.die_once(str(tmp_path / "tried")) == "survived"


# --- callers that go away -------------------------------------------------------------------------------------------


async def test_a_caller_that_is_cancelled_before_its_batch_left_is_taken_out(gate: Gate) -> None:
    async with busy(batched.pool, gate) as visitor:
        calls = together(batched.held, *((gate.address, number) for number in range(3)))
        calls[1].cancel()
        await until(lambda: batched.held.waiting == 2)
        visitor.let_through()
        batched.held.flush()
        (await gate.arrival()).let_through()
        assert [await calls[0], await calls[2]] == [(0, 2), (2, 2)]
        assert calls[1].cancelled()


async def test_a_caller_that_is_cancelled_afterwards_leaves_the_others_their_answers(gate: Gate) -> None:
    async with batched.pool:
        staying, leaving = together(batched.held, (gate.address, "a"), (gate.address, "b"))
        visitor = await gate.arrival()
        leaving.cancel()
        assert isinstance(await outcome(leaving), asyncio.CancelledError)
        visitor.let_through()
        assert await staying == ("a", 2)


async def test_a_batch_that_everybody_has_left_is_broken_off(gate: Gate) -> None:
    async with batched.pool:
        calls = together(batched.held, (gate.address, "a"), (gate.address, "b"))
        visitor = await gate.arrival()
        for call in calls:
            call.cancel()
        await visitor.gone()
        assert await batched.double(1) == 2
        assert batched.pool.statistics().cancelled == 1


async def test_a_call_passes_its_timeout_while_it_waits_for_company(gate: Gate) -> None:
    async with busy(batched.pool, gate):
        with pytest.raises(TaskTimeout, match=r"timeout of 0\.2 s while it was waiting") as caught:
            await batched.held_with_timeout(gate.address)
        assert not caught.value.started
        assert batched.held_with_timeout.waiting == 0


async def test_a_call_passes_its_timeout_while_it_runs(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    batch: Any = pool.batch(max_wait=60, timeout=30)(batched.held_with_timeout.function)
    async with pool:
        calls = together(batch, gate.address, gate.address)
        visitor = await gate.arrival()
        batcher = batch._batcher
        batcher._time_out(max(call.deadline for call in batcher._open))  # as the timer does at that instant
        errors = [await outcome(call) for call in calls]
        assert [(type(error), error.timeout, error.started) for error in errors] == [(TaskTimeout, 30, True)] * 2
        assert errors[0] is not errors[1]
        await visitor.gone()


async def test_the_timeout_of_a_call_counts_from_the_call_not_from_its_batch(gate: Gate) -> None:
    """The first caller's time is up; the second, who came later, still gets an answer."""
    pool = Pool(max_workers=1)
    batch: Any = pool.batch(max_wait=60, timeout=30)(batched.held.function)
    async with busy(pool, gate) as visitor:
        first, second = together(batch, (gate.address, 1), (gate.address, 2))
        await until(lambda: batch.waiting == 2)
        batcher = batch._batcher
        oldest = next(iter(batcher._open))
        batcher._time_out(oldest.deadline)  # as the timer does at that instant
        assert isinstance(await outcome(first), TaskTimeout)
        visitor.let_through()
        batch.flush()
        (await gate.arrival()).let_through()
        assert await second == (2, 1)


async def test_a_batch_does_not_end_with_the_request_that_happened_to_send_it(gate: Gate) -> None:
    scope = TaskScope()
    async with batched.pool:
        current_scope.set(scope)
        (of_request,) = together(batched.held, (gate.address, "a"))
        current_scope.set(None)
        (of_another,) = together(batched.held, (gate.address, "b"))
        visitor = await gate.arrival()
        scope.end(ClientDisconnected())
        with pytest.raises(ClientDisconnected):
            await of_request
        visitor.let_through()
        assert await of_another == ("b", 2)


async def test_a_request_that_ends_takes_its_waiting_call_along(gate: Gate) -> None:
    scope = TaskScope()
    async with busy(batched.pool, gate):
        current_scope.set(scope)
        (call,) = together(batched.held, (gate.address, "a"))
        await until(lambda: batched.held.waiting == 1)
        scope.end(ClientDisconnected())
        with pytest.raises(ClientDisconnected):
            await call
        assert batched.held.waiting == 0


# --- refusal and the pool's end -------------------------------------------------------------------------------------


async def test_only_so_many_calls_wait(gate: Gate) -> None:
    pool = Pool(max_workers=1, max_queue=3)
    batch: Any = pool.batch(max_size=100, max_wait=60)(batched.double.function)
    async with busy(pool, gate) as visitor:
        calls = together(batch, 1, 2, 3)
        await until(lambda: batch.waiting == 3)
        with pytest.raises(QueueFull, match="3 calls of double wait already") as caught:
            await batch(4)
        assert caught.value.retry_after > 0
        assert pool.statistics().refused == 1
        visitor.let_through()
        batch.flush()
        assert await asyncio.gather(*calls) == [2, 4, 6]


async def test_a_full_queue_refuses_calls_at_the_door(gate: Gate) -> None:
    pool = Pool(max_workers=1, max_queue=1)
    batch: Any = pool.batch(batched.double.function)
    async with busy(pool, gate) as visitor:
        waiting = pool.submit(tasks.double, 1)
        with pytest.raises(QueueFull):
            await batch(1)
        assert pool.statistics().refused == 1
        visitor.let_through()
        assert await waiting == 2


async def test_a_queue_that_filled_meanwhile_refuses_the_batch_to_each_of_its_callers(gate: Gate) -> None:
    pool = Pool(max_workers=1, max_queue=3)
    batch: Any = pool.batch(max_wait=60)(batched.double.function)
    async with busy(pool, gate) as visitor:
        calls = together(batch, 1, 2, 3)
        await until(lambda: batch.waiting == 3)
        waiting = asyncio.gather(*(pool.submit(tasks.double, n) for n in range(3)))
        batch.flush()
        assert [type(await outcome(call)) for call in calls] == [QueueFull] * 3
        assert pool.statistics().refused == 3  # callers, not batches
        visitor.let_through()
        assert await waiting == [0, 2, 4]


async def test_a_pool_that_drains_sends_what_waits_and_finishes_it(gate: Gate) -> None:
    async with busy(batched.pool, gate) as visitor:
        calls = together(batched.with_company, 1, 2, 3)
        await until(lambda: batched.with_company.waiting == 3)
        draining = asyncio.ensure_future(batched.pool.drain())
        await until(lambda: batched.with_company.waiting == 0)
        with pytest.raises(PoolClosed):
            await batched.with_company(4)
        visitor.let_through()
        assert [item for item, _, _ in await asyncio.gather(*calls)] == [1, 2, 3]
        await draining


async def test_a_pool_that_is_closed_at_once_leaves_no_caller_waiting(gate: Gate) -> None:
    async with busy(batched.pool, gate):
        calls = together(batched.with_company, 1, 2)
        await until(lambda: batched.with_company.waiting == 2)
        await batched.pool.aclose(timeout=0)
        assert [type(await outcome(call)) for call in calls] == [PoolClosed] * 2


async def test_a_pool_that_does_not_run_says_so() -> None:
    with pytest.raises(PoolClosed):
        await Pool().batch(batched.double.function)(1)


async def test_the_door_knows_a_batch_by_the_name_that_its_run_time_is_learned_under() -> None:
    pool = Pool(max_workers=1)
    batch: Any = pool.batch(batched.Nested.double)
    async with pool:
        assert await batch(2) == 4
        assert scheduler_of(pool._runtime.running_engine()).run_times.mean(batch._plan().name) is not None
