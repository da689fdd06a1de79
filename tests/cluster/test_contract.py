"""What holds for every engine: results, errors, bulk, progress, context; deadlines and crashes on the node."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import BackendUnsupported, Pool, TaskNotPicklable, TaskTimeout, WorkerLost
from tests import tasks
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from tests.cluster.servers import Harness

who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
both = Pool(backend="inline", max_workers=1)
#: Tasks that hang: in a loop of Python, in a call of C, and without minding any signal.
HOLDS = (tasks.hold_in_python, tasks.hold_in_c, tasks.hold_stubbornly)


class TwoArguments(Exception):
    """The classic that pickle can't rebuild."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def fail_with_two(code: int) -> None:
    raise TwoArguments(code, "twice")


def who_is_it() -> str:
    return who.get()


@both.resource
def table() -> dict[str, int]:
    return {"loads": 1}


def look_up() -> int:
    table()["loads"] += 1
    return table()["loads"]


def total_all(numbers: list[int]) -> list[int]:
    return [len(numbers)] * len(numbers)


def pool_of(engine: Harness, **options: Any) -> Pool:
    return Pool(backend=engine.url, **options)


async def test_results_come_home(engine: Harness) -> None:
    async with pool_of(engine) as pool:
        assert await pool.run(tasks.double, 21) == 42
        assert await pool.run(tasks.echo, None) is None
        assert await pool.gather(tasks.double, range(50)) == [2 * number for number in range(50)]
        assert sorted([n async for n in pool.map(tasks.double, range(20), ordered=False)]) == list(range(0, 40, 2))


async def test_exceptions_come_home_as_themselves_with_the_traceback_of_the_node(engine: Harness) -> None:
    async with pool_of(engine) as pool:
        with pytest.raises(ValueError, match="deep down") as raised:
            await pool.run(tasks.fail_deeply)
        assert "fail_deeply" in str(raised.value.__cause__)
        with pytest.raises(TwoArguments) as two:
            await pool.run(fail_with_two, 7)
        assert two.value.code == 7


async def test_what_can_not_be_pickled_is_named(engine: Harness) -> None:
    async with pool_of(engine) as pool:
        with pytest.raises(TaskNotPicklable) as arguments:
            await pool.run(tasks.echo, tasks.make_session())
        assert arguments.value.path.startswith("args[0].")
        with pytest.raises(TaskNotPicklable) as result:
            await pool.run(tasks.make_session)
        assert result.value.path.startswith("result.")


@pytest.mark.parametrize("size", [0, 1, 5_000, 1 << 20, 64 << 20])
async def test_payloads_of_any_size_go_there_and_back(engine: Harness, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with pool_of(engine) as pool:
        assert await pool.run(tasks.echo, data) == data


async def test_batches_resources_and_context_work_there(engine: Harness) -> None:
    async with pool_of(engine, carry_context=[who]) as pool:
        batch = pool.batch(max_size=10, max_wait=0.05)(total_all)
        assert await asyncio.gather(*(batch(n) for n in range(5))) == [5] * 5
        assert await pool.run(look_up) >= 2
        who.set("Ada")
        assert await pool.run(who_is_it) == "Ada"


async def test_progress_is_seen_while_a_task_runs(engine: Harness, gate: Gate) -> None:
    async with pool_of(engine) as pool:
        handle = pool.submit(tasks.report_and_hold, gate.address, "half")
        visitor = await gate.arrival()
        await until(lambda: handle.progress == "half")
        visitor.let_through()
        assert await handle == "half"


@pytest.mark.parametrize("hold", HOLDS)
async def test_a_deadline_reaches_what_runs_there(engine: Harness, gate: Gate, hold: Any) -> None:
    async with pool_of(engine) as pool:
        handles = [pool.submit(hold, gate.address, timeout=5.0) for _ in range(2)]  # both workers of the node
        for _ in handles:
            await gate.arrival()
        for handle in handles:
            with pytest.raises(TaskTimeout):
                await handle
        ended = time.monotonic()
        assert await pool.run(tasks.double, 2) == 4
        assert time.monotonic() - ended < 10  # the slot is free again, on however loaded a machine


@pytest.mark.parametrize("hold", HOLDS)
async def test_a_cancellation_reaches_what_runs_there(engine: Harness, gate: Gate, hold: Any) -> None:
    async with pool_of(engine) as pool:
        handles = [pool.submit(hold, gate.address) for _ in range(2)]
        for _ in handles:
            await gate.arrival()
        for handle in handles:
            handle.cancel()
        assert await pool.run(tasks.double, 2) == 4


async def test_a_crash_there_is_its_own_tasks_alone(engine: Harness, gate: Gate) -> None:
    async with pool_of(engine) as pool:
        other = pool.submit(tasks.hold, gate.address, "stays")
        visitor = await gate.arrival()
        with pytest.raises(WorkerLost) as lost:
            await pool.run(tasks.exit_hard, 3, retries=1)
        assert lost.value.exitcode == 3
        assert pool.statistics().retried == 1
        visitor.let_through()
        assert await other == "stays"


async def test_what_a_node_does_not_allow_is_refused(engine: Harness) -> None:
    import os

    async with pool_of(engine) as pool:
        with pytest.raises(BackendUnsupported, match=r"does not run posix:getpid.*posix"):
            await pool.run(os.getpid)


async def test_what_a_cluster_can_not_do_is_refused_and_not_ignored(engine: Harness) -> None:
    async with pool_of(engine) as pool:
        with pytest.raises(BackendUnsupported, match="copy=False"):
            await pool.run(tasks.double, 1, copy=False)
        with pytest.raises(BackendUnsupported):
            await pool.recycle()
    for option in ("max_worker_memory", "max_tasks_per_worker"):
        with pytest.raises(BackendUnsupported, match="(?i)" + option.replace("_", "[-_]")):
            async with pool_of(engine, **{option: 1 << 30}):
                pass
