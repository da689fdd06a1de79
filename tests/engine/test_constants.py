"""`lifepool.constant`: a large argument is pickled once and sent to each worker once."""

from __future__ import annotations

import asyncio
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import PayloadTooLarge, Pool, TaskNotPicklable, constant
from tests import tasks
from tests.engine import constant_tasks
from tests.engine.constant_tasks import Table, look_up
from tests.engine.gates import PATIENCE_S, until
from tests.engine.scheduling import scheduler_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.gates import Gate


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A line for each time that a table is rebuilt: the process."""
    path = tmp_path / "rebuilt"
    path.touch()
    return path


@pytest.fixture
def table(log: Path) -> Table:
    return Table(str(log), {"one": 1, "two": 2})


def rebuilt(log: Path) -> list[str]:
    return log.read_text().split()


async def test_it_is_pickled_once_and_rebuilt_once_in_each_worker(table: Table, log: Path, gate: Gate) -> None:
    shared = constant(table)
    async with Pool(max_workers=2) as pool:
        for _ in range(3):
            holding = [pool.submit(constant_tasks.hold_and_look_up, gate.address, shared, "two") for _ in range(2)]
            for _ in range(2):
                (await gate.arrival()).let_through()
            answers = [await handle for handle in holding]
            assert [found for _, found in answers] == [2, 2]
            assert len({pid for pid, _ in answers}) == 2
    assert table.pickled == 1
    assert len(rebuilt(log)) == len(set(rebuilt(log))) == 2


async def test_tasks_of_a_worker_get_the_same_plain_object() -> None:
    shared = constant({"a": 1})
    async with Pool(max_workers=1) as pool:
        seen = {await pool.run(constant_tasks.kind_and_identity, shared) for _ in range(3)}
    assert len(seen) == 1
    assert next(iter(seen))[0] == "dict"


async def test_it_can_be_bound_mapped_and_nested(table: Table) -> None:
    shared = constant(table)
    async with Pool(max_workers=2) as pool:
        assert await pool.gather(partial(look_up, shared), ["one", "two", "three"]) == [1, 2, None]
        assert await pool.run(partial(look_up, word="two", table=shared)) == 2
        decorated = pool.task(look_up)
        assert await decorated(shared, word="one") == 1
        assert await pool.run(constant_tasks.first_of, [shared]) == "Table"
    assert table.pickled == 1


async def test_a_worker_that_replaces_another_is_sent_it_too(table: Table, log: Path) -> None:
    shared = constant(table)
    async with Pool(max_workers=1, max_tasks_per_worker=2) as pool:
        assert [await pool.run(look_up, shared, "one") for _ in range(6)] == [1] * 6
    assert table.pickled == 1
    assert len(rebuilt(log)) == len(set(rebuilt(log))) >= 3


async def test_a_task_that_is_run_again_elsewhere_has_it(table: Table, tmp_path: Path) -> None:
    shared = constant(table)
    async with Pool(max_workers=1) as pool:
        assert await pool.run(_die_once, str(tmp_path / "tried"), shared, retries=1) == 2


def _die_once(path: str, table: Table) -> int | None:
    tasks.die_unless_tried_before(path)
    return look_up(table, "two")


async def test_one_that_came_with_a_task_that_was_taken_back_is_there_for_the_next(table: Table, gate: Gate) -> None:
    shared = constant(table)
    async with Pool(max_workers=1) as pool:
        assert pool._engine is not None
        (worker,) = scheduler_of(pool._engine).fleet
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for _ in range(20):
                    await pool.run(tasks.perform, "nothing")  # until it is known to be short: the next are pipelined
                holding = pool.submit(tasks.perform, "hold", gate.address)
                taken_back = pool.submit(tasks.perform, "nothing", shared)
                if len(worker.tasks) == 2:
                    break
                taken_back.cancel()
                (await gate.arrival()).let_through()
                await holding
        visitor = await gate.arrival()
        taken_back.cancel()
        await until(lambda: len(worker.tasks) == 1)
        visitor.let_through()
        await holding
        assert await pool.run(look_up, shared, "one") == 1
    assert table.pickled == 1


async def test_small_tasks_without_it_overtake_nothing(table: Table) -> None:
    """They take another way than constants do; in whatever order they are sent, each gets its own arguments."""
    tables = [constant(table), constant({"x": 1})]
    async with Pool(max_workers=1) as pool:
        answers = await asyncio.gather(
            *(pool.run(constant_tasks.kind_and_identity, tables[n % 2]) if n % 3 else pool.run(tasks.double, n)
              for n in range(60))
        )  # fmt: skip
    for number, answer in enumerate(answers):
        if number % 3:
            assert answer[0] == ("Table", "dict")[number % 2]  # type: ignore[index]
        else:
            assert answer == 2 * number


async def test_it_goes_with_big_arguments_and_may_be_big_itself() -> None:
    async with Pool(max_workers=1) as pool:
        shared = constant(bytes(3_000_000))
        for _ in range(3):
            assert await pool.run(constant_tasks.size_of_both, shared, bytes(200_000)) == (3_000_000, 200_000)


async def test_workers_forget_what_the_server_has_dropped(table: Table) -> None:
    async with Pool(max_workers=1) as pool:
        dropped = [constant([number]) for number in range(5)]
        for each in dropped:
            await pool.run(constant_tasks.how_many_are_kept, each)
        assert await pool.run(constant_tasks.how_many_are_kept, dropped[0]) == 5
        del dropped, each
        gc.collect()
        assert await pool.run(constant_tasks.how_many_are_kept, constant(table)) == 1


async def test_changes_after_it_was_first_sent_are_not_seen_by_workers() -> None:
    words = {"a": 1}
    shared = constant(words)
    async with Pool(max_workers=1) as pool:
        assert await pool.run(len, shared) == 1
        words["b"] = 2
        assert await pool.run(len, shared) == 1


async def test_one_that_can_not_be_pickled_names_the_part() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskNotPicklable, match=r"^constant\.session\._lock can't be pickled"):
            await pool.run(tasks.echo, constant(constant_tasks.Holder()))
        assert await pool.run(tasks.double, 1) == 2


async def test_one_that_is_too_large_is_refused() -> None:
    async with Pool(max_workers=1, max_payload=10_000) as pool:
        with pytest.raises(PayloadTooLarge):
            await pool.run(len, constant(bytes(20_000)))


async def test_one_that_a_worker_can_not_rebuild_fails_each_task_that_needs_it() -> None:
    shared = constant(tasks.BreaksWhenLoaded())
    async with Pool(max_workers=1) as pool:
        for _ in range(2):
            with pytest.raises(TaskNotPicklable, match="could not rebuild it: ValueError: can't be rebuilt"):
                await pool.run(tasks.echo, shared)
        assert pool.statistics().restarts == {}


async def test_an_initializer_can_be_passed_one() -> None:
    async with Pool(max_workers=1, initializer=constant_tasks.keep, initargs=(constant([1]),)) as pool:
        assert await pool.run(constant_tasks.what_is_kept) == [[1]]


@pytest.mark.parametrize("backend", ["inline", "executor", "threads"])
async def test_other_backends_pass_the_value(backend: str, table: Table) -> None:
    shared: Any = constant(table)
    with ThreadPoolExecutor(1) as threads:
        async with Pool(max_workers=1, backend=threads if backend == "threads" else backend) as pool:
            assert await pool.run(look_up, shared, "one") == 1
            assert await pool.run(partial(look_up, shared), "two") == 2
            assert await pool.gather(partial(look_up, word="two"), [shared.value]) == [2]
            assert await pool.gather(partial(look_up, shared), ["one"]) == [1]


def test_pickled_by_anybody_else_it_is_the_value() -> None:
    assert pickle.loads(pickle.dumps([constant({"a": 1})])) == [{"a": 1}]
    assert repr(constant({"a": 1})) == "<constant dict>"


def test_a_constant_in_a_constant_is_part_of_it() -> None:
    outer: Any = constant([constant({"a": 1})])
    assert pickle.loads(outer.pickled()) == [{"a": 1}]
