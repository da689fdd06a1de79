"""`map` and `gather` over real workers: bounded, ordered, polite to others."""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from lifepool import Pool, PoolClosed, QueueFull, TaskNotPicklable, TaskTimeout, WorkerLost
from lifepool._engine.scope import TaskScope, current_scope
from lifepool.errors import ClientDisconnected
from tests import tasks
from tests.engine.gates import Gate, until
from tests.engine.scheduling import scheduler_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path


def leaving(results: AsyncIterator[Any]) -> aclosing[AsyncGenerator[Any]]:
    """End the map when the block ends."""
    return aclosing(cast("AsyncGenerator[Any]", results))


@pytest.mark.all_loops
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", ["auto", 1, 13])
async def test_a_large_map_gives_every_result_once(ordered: bool, chunksize: Any) -> None:
    async with Pool(max_workers=2) as pool:
        mapped = pool.map(tasks.double, range(3000), ordered=ordered, chunksize=chunksize)
        results = [result async for result in mapped]
    assert (results if ordered else sorted(results)) == list(range(0, 6000, 2))


async def test_an_unordered_map_hands_on_what_is_done_first(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        items = [(gate.address, number) for number in range(2)]
        mapped = pool.map(tasks.hold_one, items, ordered=False, chunksize=1)
        async with leaving(mapped) as results:
            first = asyncio.ensure_future(anext(results))
            visitors = [await gate.arrival(), await gate.arrival()]
            visitors[1].let_through()
            results_seen = [await first]
            visitors[0].let_through()
            results_seen += [result async for result in results]
    assert sorted(results_seen) == [0, 1]


@pytest.mark.parametrize("ordered", [True, False])
async def test_items_are_taken_only_as_results_are_consumed(ordered: bool) -> None:
    taken = handed_back = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            assert taken - handed_back <= 10
            yield taken

    async with Pool(max_workers=2) as pool:
        async with leaving(pool.map(tasks.echo, endless(), buffer=10, ordered=ordered)) as results:
            async for _ in results:
                handed_back += 1
                if handed_back == 500:
                    break
        await until(lambda: pool.statistics().running == 0)
        assert pool.statistics().queued == 0


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_asynchronous_source_is_asked_for_no_more_than_the_buffer_holds(ordered: bool) -> None:
    taken = handed_back = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal taken
        while True:
            await asyncio.sleep(0)
            taken += 1
            assert taken - handed_back <= 10
            yield taken

    async with (
        Pool(max_workers=2) as pool,
        leaving(pool.map(tasks.echo, endless(), buffer=10, ordered=ordered)) as results,
    ):
        async for _ in results:
            handed_back += 1
            if handed_back == 300:
                break


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_slow_source_does_not_hold_back_results(ordered: bool) -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        yield 2
        await more.wait()
        yield 3

    async with Pool(max_workers=2) as pool:
        results = pool.map(tasks.double, slow(), ordered=ordered)
        first = {await asyncio.wait_for(anext(results), 20) for _ in range(2)}
        assert first == {2, 4}  # while the source still thinks about the third
        more.set()
        assert [result async for result in results] == [6]


async def test_an_asynchronous_source_is_closed_when_the_map_is_left() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed.set()

    async with Pool(max_workers=1) as pool:
        async with leaving(pool.map(tasks.echo, endless())) as results:
            async for _ in results:
                break
        assert closed.is_set()


async def test_leaving_a_map_cancels_what_is_under_way(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        items = [(gate.address, number) for number in range(100)]
        async with leaving(pool.map(tasks.hold_one, items, chunksize=1)) as results:
            first = asyncio.ensure_future(anext(results))
            visitors = [await gate.arrival(), await gate.arrival()]
            for visitor in visitors:
                visitor.let_through()
            await first
        await until(lambda: pool.statistics().running + pool.statistics().queued == 0)
        assert await pool.run(tasks.double, 1) == 2


async def test_cancelling_a_gather_cancels_what_is_under_way(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        items = [(gate.address, number) for number in range(10)]
        gathering = asyncio.ensure_future(pool.gather(tasks.hold_one, items, chunksize=1))
        visitors = [await gate.arrival(), await gate.arrival()]
        gathering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathering
        for visitor in visitors:
            await visitor.gone()
        assert await pool.run(tasks.double, 1) == 2
        assert gate.nobody_came()


async def test_a_queue_full_of_other_tasks_makes_a_map_wait_not_fail(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=1) as pool:
        held = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        waiting = pool.submit(tasks.hold, gate.address)
        gathering = asyncio.ensure_future(pool.gather(tasks.double, range(20), chunksize=1, on_full="wait"))
        await until(lambda: len(line_of(pool)) == 1)
        visitor.let_through()
        (await gate.arrival()).let_through()
        assert await gathering == list(range(0, 40, 2))
        await asyncio.gather(held, waiting)


async def test_a_map_larger_than_the_queue_works() -> None:
    async with Pool(max_workers=2, max_queue=1) as pool:
        assert await pool.gather(tasks.echo, range(100), chunksize=1) == list(range(100))


async def test_several_maps_share_a_pool() -> None:
    async with Pool(max_workers=2, max_queue=4) as pool:
        answers = await asyncio.gather(
            *(pool.gather(tasks.echo, range(start, start + 100), on_full="wait") for start in range(0, 500, 100))
        )
    assert [number for answer in answers for number in answer] == list(range(500))


async def test_one_bad_item_of_a_chunk_leaves_the_others_their_results() -> None:
    async with Pool(max_workers=2) as pool:
        results: list[Any] = await pool.gather(tasks.fail_for_three, range(10), chunksize=10, return_exceptions=True)
    assert isinstance(results.pop(3), ValueError)
    assert results == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_the_exception_of_an_item_has_the_workers_traceback() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(ValueError, match="no 3") as caught:
            await pool.gather(tasks.fail_for_three, range(10))
    assert "fail_for_three" in str(caught.value.__cause__)


async def test_a_timeout_of_a_map_holds_for_a_chunk(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskTimeout):
            await pool.gather(tasks.hold_in_python, [gate.address], timeout=0.1)


async def test_retries_of_a_map_run_a_lost_chunk_again(tmp_path: Path) -> None:
    async with Pool(max_workers=1) as pool:
        paths = [str(tmp_path / name) for name in "abc"]
        results = await pool.gather(tasks.die_unless_tried_before, paths, chunksize=1, retries=1)
    assert results == ["survived"] * 3


async def test_a_lost_chunk_is_an_exception_in_its_place_if_asked_for() -> None:
    async with Pool(max_workers=1) as pool:
        results: list[Any] = await pool.gather(
            tasks.perform_pair,
            [("nothing", 1), ("exit", 1), ("nothing", 2)],
            chunksize=1,
            return_exceptions=True,
        )
    assert results[0] == 1
    assert isinstance(results[1], WorkerLost)
    assert results[2] == 2


async def test_a_task_with_a_decorator_can_be_mapped() -> None:
    async with Pool(max_workers=2) as pool:
        decorated: Any = pool.task(tasks.double)
        assert await pool.gather(decorated, range(4)) == [0, 2, 4, 6]
        where: Any = pool.task(tasks.pid_for)
        assert os.getpid() not in await pool.gather(where, range(4))


async def test_a_plain_break_ends_a_map_too(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        items = [(gate.address, number) for number in range(100)]
        first = asyncio.ensure_future(gate.arrival())
        first.add_done_callback(lambda arrived: arrived.result().let_through())
        async for _ in pool.map(tasks.hold_one, items, chunksize=1):
            break
        await until(lambda: pool.statistics().running + pool.statistics().queued == 0)
        assert pool.statistics().completed == 1


async def test_an_item_that_can_not_be_sent_fails_the_map() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskNotPicklable):
            await pool.gather(tasks.echo, [1, lambda: None, 2], chunksize=1)
        assert pool.statistics().queued == 0


# --- a full queue ---------------------------------------------------------------------------------


def line_of(pool: Pool) -> dict[Any, None]:
    """Those who wait for room in the queue of a pool that runs."""
    return pool._runtime.running_engine().waiting_queue.waiting


async def filled(pool: Pool, gate: Gate) -> tuple[Any, list[Any]]:
    """Take the one worker and the one place in the queue; the task that runs, and the handles of both."""
    running = pool.submit(tasks.hold, gate.address)
    visitor = await gate.arrival()
    return visitor, [running, pool.submit(tasks.hold, gate.address)]


async def freed(visitor: Any, handles: list[Any], gate: Gate) -> None:
    visitor.let_through()
    (await gate.arrival()).let_through()
    await asyncio.gather(*handles)


@pytest.mark.parametrize("ordered", [True, False])
async def test_what_is_done_is_handed_on_while_a_full_queue_holds_up_the_rest(gate: Gate, ordered: bool) -> None:
    """The first item is long, the others are short; there is room for one of them at a time."""
    async with Pool(max_workers=2, max_queue=1) as pool:
        items: list[tuple[str, Any]] = [("hold", gate.address), *(("echo", n) for n in range(30))]
        if ordered:
            items.append(items.pop(0))
        async with leaving(pool.map(tasks.perform_pair, items, ordered=ordered, chunksize=1)) as results:
            short = [await asyncio.wait_for(anext(results), 20) for _ in range(30)]
            assert sorted(short) == list(range(30))  # all of them, while the long one runs
            (await gate.arrival()).let_through()
            assert len([result async for result in results]) == 1


async def test_a_gather_that_finds_the_queue_full_is_refused_at_once_and_counted_once(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=1) as pool:
        visitor, handles = await filled(pool, gate)
        for _ in range(3):
            with pytest.raises(QueueFull):
                await pool.gather(tasks.double, range(20), chunksize=1)
        with pytest.raises(QueueFull):
            _ = [result async for result in pool.map(tasks.double, range(20), on_full="raise")]
        assert pool.statistics().refused == 4
        await freed(visitor, handles, gate)


async def test_a_gather_that_was_let_in_waits_for_room_and_nobody_is_counted_as_refused(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=1) as pool:
        running = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        gathering = asyncio.ensure_future(pool.gather(tasks.double, range(20), chunksize=1))
        await until(lambda: len(line_of(pool)) == 1)
        visitor.let_through()
        assert await gathering == list(range(0, 40, 2))
        await running
        assert pool.statistics().refused == 0


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_the_timeout_of_a_gather_is_that_of_the_whole_call(gate: Gate, return_exceptions: bool) -> None:
    """Items of which none is ever done, one at a time: one timeout ends them all."""
    loop = asyncio.get_running_loop()
    async with Pool(max_workers=1, max_queue=1) as pool:
        began = loop.time()
        gathering = pool.gather(
            tasks.hold_in_python, [gate.address] * 200, chunksize=1, timeout=0.2, return_exceptions=return_exceptions
        )
        if return_exceptions:
            results: list[Any] = await gathering
            assert [type(result) for result in results] == [TaskTimeout] * 200
            assert {result.timeout for result in results} == {0.2}
        else:
            with pytest.raises(TaskTimeout, match=r"timeout of 0\.2 s"):
                await gathering
        assert loop.time() - began < 200 * 0.2
        assert not line_of(pool)


async def test_the_pools_timeout_bounds_a_gather_that_waits_in_line(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=1, timeout=0.2) as pool:
        first = pool.submit(tasks.hold, gate.address, timeout=math.inf)
        visitor = await gate.arrival()
        second = pool.submit(tasks.hold, gate.address, timeout=math.inf)
        with pytest.raises(TaskTimeout, match="waiting in the queue"):
            await pool.gather(tasks.double, range(3), on_full="wait")
        with pytest.raises(TaskTimeout, match="waiting in the queue"):
            _ = [result async for result in pool.map(tasks.double, range(3))]
        await freed(visitor, [first, second], gate)


async def test_a_gather_does_not_wait_for_a_source_longer_than_its_timeout() -> None:
    async def never() -> AsyncIterator[int]:
        yield 1
        await asyncio.get_running_loop().create_future()

    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskTimeout):
            await pool.gather(tasks.double, never(), timeout=0.1)


async def test_those_in_line_come_before_those_who_come_later(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=1) as pool:
        visitor, handles = await filled(pool, gate)
        gathering = asyncio.ensure_future(pool.gather(tasks.double, [1], on_full="wait"))
        await until(lambda: len(line_of(pool)) == 1)
        refused_later: list[bool] = []

        def barge(_: object) -> None:  # in the very turn of the loop in which there is room
            try:
                handles.append(pool.submit(tasks.double, 1))
            except QueueFull:
                refused_later.append(True)

        handles[0].add_done_callback(barge)
        await freed(visitor, handles[:2], gate)
        assert await gathering == [2]
        assert refused_later == [True]


async def test_one_who_leaves_the_line_passes_the_room_on(gate: Gate) -> None:
    """The first in line is cancelled at the moment at which it is called: the second is called instead."""
    async with Pool(max_workers=1, max_queue=1) as pool:
        visitor, handles = await filled(pool, gate)
        first, second = (asyncio.ensure_future(pool.gather(tasks.double, [n], on_full="wait")) for n in (1, 2))
        await until(lambda: len(line_of(pool)) == 2)
        next(iter(line_of(pool))).add_done_callback(lambda _: first.cancel())
        await freed(visitor, handles, gate)
        assert await asyncio.wait_for(second, 20) == [4]
        assert first.cancelled()
        assert pool._runtime.running_engine()._scheduler.admission.reserved == 0


async def test_the_end_of_the_pool_ends_the_line(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=1) as pool:
        visitor, handles = await filled(pool, gate)
        gathering = asyncio.ensure_future(pool.gather(tasks.double, range(3), on_full="wait"))
        await until(lambda: len(line_of(pool)) == 1)
        draining = asyncio.ensure_future(pool.drain(20))
        with pytest.raises(PoolClosed):
            await asyncio.wait_for(gathering, 20)
        await freed(visitor, handles, gate)
        await draining


async def test_the_end_of_the_request_ends_the_wait_in_line(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=1) as pool:
        visitor, handles = await filled(pool, gate)
        scope = TaskScope()
        token = current_scope.set(scope)
        gathering = asyncio.ensure_future(pool.gather(tasks.double, range(3), on_full="wait"))
        current_scope.reset(token)
        await until(lambda: len(line_of(pool)) == 1)
        scope.end(ClientDisconnected())
        with pytest.raises(ClientDisconnected):
            await asyncio.wait_for(gathering, 20)
        assert not line_of(pool)
        await freed(visitor, handles, gate)


async def test_the_consumer_of_a_map_may_use_the_pool_itself() -> None:
    """No room is kept for a map while its consumer is at work."""
    async with Pool(max_workers=1, max_queue=1) as pool:
        async for number in pool.map(tasks.echo, range(20), chunksize=1, ordered=False):
            for attempt in range(1000):
                try:
                    assert await pool.run(tasks.double, number) == 2 * number
                    break
                except QueueFull:
                    assert attempt < 999
                    await asyncio.sleep(0)


async def test_chunks_are_known_by_the_function_that_is_mapped_everywhere(gate: Gate) -> None:
    """Also without a hook; and what is learned of single calls is not spoilt."""
    async with Pool(max_workers=1) as pool:
        items = [(gate.address, 1)]
        for mapped in (tasks.hold_one, partial(tasks.hold_one), pool.task(tasks.hold_one)):
            mapping = asyncio.ensure_future(pool.gather(cast("Any", mapped), items))
            visitor = await gate.arrival()
            assert [worker.task_name for worker in pool.workers()] == ["hold_one"]
            visitor.let_through()
            await mapping
        await pool.gather(tasks.double, range(100), chunksize=50)
        learned = scheduler_of(pool._runtime.running_engine()).run_times
        assert learned.estimate("double") is None
        assert learned.estimate("double x64") is not None
        assert learned.estimate("run_chunk") is None


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1}, {"retries": -1}, {"on_full": "hope"}])
async def test_arguments_that_make_no_sense_are_refused_at_once(wrong: dict[str, Any]) -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            pool.map(tasks.double, [1], **wrong)
        with pytest.raises(ValueError, match=next(iter(wrong))):
            await pool.gather(tasks.double, [], **wrong)
