"""What holds for every backend; a test that needs a capability asks for it, never for a backend's name."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskError, TaskHandle, TaskNotPicklable, TaskTimeout
from lifepool._core.states import TaskState
from tests import tasks
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
from tests.backends.needs import needs, needs_concurrency

# --- run, submit ----------------------------------------------------------------------------------


async def test_run_returns_what_the_function_returns(pool: Pool) -> None:
    async with pool:
        assert await pool.run(tasks.double, 21) == 42
        assert [await pool.run(tasks.echo, None)] == [None]


async def test_keywords_of_the_function_go_through_a_partial(pool: Pool) -> None:
    joined = functools.partial(tasks.concatenate, separator="-")
    async with pool:
        assert await pool.run(joined, "a", "b") == "a-b"


async def test_the_exception_of_the_task_is_raised_as_itself(pool: Pool) -> None:
    async with pool:
        with pytest.raises(ValueError, match="deep down"):
            await pool.run(tasks.fail_deeply)
        assert await pool.run(tasks.double, 1) == 2


@pytest.mark.parametrize("function", [tasks.exit_softly, tasks.interrupt_like_ctrl_c, tasks.raise_stop_iteration])
async def test_what_means_something_else_on_a_loop_is_told_as_a_task_error(
    backend: Any, function: Callable[[], Any]
) -> None:
    if isinstance(backend, ThreadPoolExecutor) and function is not tasks.raise_stop_iteration:
        pytest.skip("a thread of an executor has its own way with these")
    async with Pool(backend=backend, max_workers=1) as pool:
        with pytest.raises(TaskError):
            await pool.run(function)
        assert await pool.run(tasks.double, 1) == 2


async def test_submit_gives_a_handle_to_await_later(pool: Pool) -> None:
    async with pool:
        handles = [pool.submit(tasks.double, number) for number in range(20)]
        assert [await handle for handle in handles] == [2 * number for number in range(20)]
        assert {handle.state for handle in handles} == {TaskState.COMPLETED}
        assert len({handle.id for handle in handles}) == 20


async def test_handles_know_how_their_task_ended(pool: Pool) -> None:
    async with pool:
        bad: Any = pool.submit(tasks.fail, "on purpose")
        with pytest.raises(ValueError, match="on purpose"):
            await bad
        assert bad.state is TaskState.FAILED


async def test_handles_work_with_asyncio_gather_and_wait(pool: Pool) -> None:
    async with pool:
        assert await asyncio.gather(*(pool.submit(tasks.double, n) for n in range(3))) == [0, 2, 4]
        done, pending = await asyncio.wait([pool.submit(tasks.double, n) for n in range(3)])
        assert {handle.result() for handle in done} == {0, 2, 4}
        assert not pending


async def test_an_async_function_is_refused(pool: Pool) -> None:
    async def work() -> None: ...

    async with pool:
        with pytest.raises(TypeError, match=r"work is async: .* pass a plain function"):
            pool.submit(work)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": -1.0}, "timeout=-1.0"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"retries": -1}, "retries=-1"),
        ({"on_cancel": "explode"}, "on_cancel='explode'"),
    ],
)
async def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    async with Pool(backend="inline") as pool:
        with pytest.raises(ValueError, match=message):
            await pool.submit(tasks.nothing, **options)


async def test_an_infinite_timeout_means_none(pool: Pool) -> None:
    async with pool:
        assert await pool.run(tasks.double, 2, timeout=float("inf")) == 4


async def test_two_tasks_run_at_the_same_time(pool: Pool, gate: Gate) -> None:
    needs_concurrency(pool)
    async with pool:
        handles = [pool.submit(tasks.hold, gate.address, number) for number in range(2)]
        visitors = [await gate.arrival(), await gate.arrival()]  # both, with none let through
        assert [handle.state for handle in handles] == [TaskState.RUNNING] * 2
        for visitor in visitors:
            visitor.let_through()
        assert sorted(await asyncio.gather(*handles)) == [0, 1]


async def test_a_queued_task_that_is_cancelled_never_runs(pool: Pool, gate: Gate) -> None:
    needs_concurrency(pool)
    async with pool:
        blockers = [pool.submit(tasks.hold, gate.address) for _ in range(2)]
        visitors = [await gate.arrival(), await gate.arrival()]
        waiting = pool.submit(tasks.hold, gate.address)
        assert waiting.state.value == "queued"
        assert waiting.cancel()
        assert waiting.state.value == "cancelled"
        assert not waiting.cancel()  # it is done
        for visitor in visitors:
            visitor.let_through()
        await asyncio.gather(*blockers)
        assert await pool.run(tasks.double, 1) == 2
        assert gate.nobody_came()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_task_may_pass_its_timeout_in_the_queue(pool: Pool, gate: Gate) -> None:
    needs_concurrency(pool)
    async with pool:
        blockers = [pool.submit(tasks.hold, gate.address) for _ in range(2)]
        visitors = [await gate.arrival(), await gate.arrival()]
        with pytest.raises(TaskTimeout) as caught:
            await pool.run(tasks.nothing, timeout=0.05)
        assert not caught.value.started
        assert caught.value.timeout == 0.05
        for visitor in visitors:
            visitor.let_through()
        await asyncio.gather(*blockers)


async def test_a_task_that_passes_its_timeout_is_answered_while_it_still_runs(pool: Pool, gate: Gate) -> None:
    needs_concurrency(pool)
    async with pool:
        slow = pool.submit(tasks.hold, gate.address, timeout=3.0)
        visitor = await gate.arrival()
        with pytest.raises(TaskTimeout) as caught:
            await slow
        assert caught.value.started
        assert slow.state is TaskState.TIMED_OUT
        with contextlib.suppress(OSError):  # it may have been broken off
            visitor.let_through()
        assert await pool.run(tasks.double, 4) == 8


async def test_progress_is_seen_while_the_task_runs(pool: Pool, gate: Gate) -> None:
    needs(pool, "progress")
    needs_concurrency(pool)
    async with pool:
        handle = pool.submit(tasks.report_and_hold, gate.address, 0.5)
        visitor = await gate.arrival()
        await until(lambda: handle.progress == 0.5)
        visitor.let_through()
        assert await handle == 0.5


async def test_progress_is_kept_after_the_end(pool: Pool) -> None:
    needs(pool, "progress")
    async with pool:
        handle = pool.submit(tasks.report_and_return, [1, "two"])
        assert await handle == [1, "two"]
        assert handle.progress == [1, "two"]


async def test_progress_is_none_as_long_as_nothing_was_reported(pool: Pool) -> None:
    async with pool:
        handle = pool.submit(tasks.nothing)
        assert handle.progress is None
        await handle
        assert handle.progress is None


async def test_a_task_that_fails_with_a_named_exception_is_tried_again(pool: Pool, tmp_path: Any) -> None:
    path = str(tmp_path / "tried")
    async with pool:
        run = pool.run(tasks.fail_unless_tried_before, path, retries=1, retry_on=OSError)
        assert await run == "survived"
        assert pool.statistics().retried == 1


async def test_other_exceptions_are_not_tried_again(pool: Pool, tmp_path: Any) -> None:
    path = str(tmp_path / "tried")
    async with pool:
        with pytest.raises(OSError, match="the first try"):
            await pool.run(tasks.fail_unless_tried_before, path, retries=1, retry_on=(KeyError, TypeError))
        assert pool.statistics().retried == 0


async def test_retries_come_to_an_end(pool: Pool) -> None:
    async with pool:
        with pytest.raises(ValueError, match="again and again"):
            await pool.run(tasks.fail, "again and again", retries=2, retry_on=ValueError)
        assert pool.statistics().retried == 2


# --- map and gather -------------------------------------------------------------------------------


async def test_map_gives_results_in_the_order_of_the_items(pool: Pool) -> None:
    async with pool:
        results = [result async for result in pool.map(tasks.double, range(50))]
    assert results == [2 * number for number in range(50)]


async def test_unordered_map_gives_each_result_once(pool: Pool) -> None:
    async with pool:
        mapped = pool.map(tasks.double, range(50), ordered=False)
        assert sorted([result async for result in mapped]) == [2 * number for number in range(50)]


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
async def test_map_in_chunks_of_any_size_gives_the_same(chunksize: int) -> None:
    async with Pool(backend="inline") as pool:
        mapped = pool.map(tasks.double, range(50), chunksize=chunksize)
        assert [result async for result in mapped] == [2 * number for number in range(50)]


async def test_map_of_nothing_is_nothing(pool: Pool) -> None:
    async with pool:
        assert [result async for result in pool.map(tasks.double, [])] == []
        assert await pool.gather(tasks.double, []) == []


async def test_map_takes_an_asynchronous_source(pool: Pool) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0)
            yield number

    async with pool:
        assert [result async for result in pool.map(tasks.double, numbers())] == list(range(0, 20, 2))


async def test_map_raises_what_one_item_raised_after_the_results_before_it(pool: Pool) -> None:
    async with pool:
        mapped = pool.map(tasks.fail_for_three, range(10), chunksize=1)
        assert [await anext(mapped) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="no 3"):
            await anext(mapped)
        assert await pool.run(tasks.double, 1) == 2


async def test_map_raises_what_the_source_raised(pool: Pool) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise LookupError("the source is dry")

    async with pool:
        with pytest.raises(LookupError, match="the source is dry"):
            async for _ in pool.map(tasks.double, numbers(), chunksize=1):
                pass


async def test_leaving_a_map_over_an_endless_source_ends_it(pool: Pool) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async with pool:
        async with contextlib.aclosing(pool.map(tasks.double, endless(), buffer=6)) as results:  # type: ignore[type-var]
            async for result in results:
                assert taken <= result // 2 - 1 + 6  # not more than 6 beyond those handed back
                if result == 40:
                    break
        assert pool.statistics().queued == 0


async def test_gather_puts_exceptions_in_their_place_if_asked_to(pool: Pool) -> None:
    async with pool:
        results: list[Any] = await pool.gather(tasks.fail_for_three, range(5), return_exceptions=True)
        assert results[:3] == [0, 1, 2]
        assert isinstance(results[3], ValueError)
        assert results[4] == 4


async def test_gather_raises_the_first_exception(pool: Pool) -> None:
    async with pool:
        with pytest.raises(ValueError, match="no 3"):
            await pool.gather(tasks.fail_for_three, range(5))


@pytest.mark.parametrize("arguments", [{"chunksize": 0}, {"chunksize": "big"}, {"buffer": 0}])
async def test_map_refuses_sizes_that_make_no_sense_at_once(arguments: dict[str, Any]) -> None:
    async with Pool(backend="inline") as pool:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            pool.map(tasks.double, [1], **arguments)


# --- the decorator --------------------------------------------------------------------------------


async def test_a_decorated_function_is_awaited(pool: Pool) -> None:
    decorated = pool.task(tasks.concatenate)
    async with pool:
        assert await decorated("a", "b") == "ab"
        assert await decorated("a", "b", separator="/") == "a/b"
        handle: TaskHandle[str] = decorated.submit("c", "d")
        assert await handle == "cd"
        assert await pool.run(decorated.function, "e", "f") == "ef"
    assert decorated.function("g") == "g"


# --- pickling -------------------------------------------------------------------------------------


async def test_an_argument_that_can_not_be_sent_is_the_tasks_fault_alone(pool: Pool) -> None:
    needs(pool, "kill")
    async with pool:
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.echo, threading.Lock())
        assert await pool.run(tasks.double, 1) == 2


async def test_what_does_not_pickle_is_refused_by_every_backend_of_processes() -> None:
    async with Pool(backend="executor", max_workers=1) as pool:
        for function, argument in ((tasks.echo, threading.Lock()), (lambda _: None, 1)):
            with pytest.raises(TaskNotPicklable):
                await pool.run(function, argument)
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.make_session)
        assert await pool.run(tasks.double, 1) == 2
