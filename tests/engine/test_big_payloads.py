"""Big arguments and results go through shared memory: unharmed, whatever happens meanwhile, and it is given back."""

from __future__ import annotations

import array
import asyncio
import os
import platform
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lifepool import PayloadTooLarge, Pool, TaskNotPicklable, TaskTimeout, WorkerLost
from lifepool.backends.local import connection, outbox
from lifepool.backends.local.backend import LocalBackend
from lifepool.backends.local.codec.sink import BIG_BYTES
from lifepool.backends.local.shared import arena_upkeep
from tests import tasks
from tests.engine import big_tasks
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from pathlib import Path

    from lifepool.backends.local.shared.arena import Arguments

MIB = 1 << 20


def backend_of(pool: Pool) -> LocalBackend:
    assert pool._engine is not None
    backend = pool._engine._backend
    assert isinstance(backend, LocalBackend)
    return backend


def shared(pool: Pool) -> Arguments:
    arguments = backend_of(pool)._outbox.shared
    assert arguments is not None
    return arguments


def memory_of(pool: Pool) -> int:
    backend = backend_of(pool)
    fds = [shared(pool).reading_fd]
    fds += [member.results.writing_fd for member in backend._connections.values() if member.results is not None]
    return sum(os.fstat(fd).st_blocks * 512 for fd in fds)


@pytest.mark.all_loops
@pytest.mark.parametrize("size", [BIG_BYTES - 100, BIG_BYTES, MIB, 20 * MIB])
async def test_payloads_of_any_size_come_back_as_they_went(size: int) -> None:
    value = os.urandom(size)
    async with Pool(max_workers=2) as pool:
        assert await asyncio.gather(*(pool.run(tasks.echo, value) for _ in range(6))) == [value] * 6
        await until(lambda: not shared(pool).taken)  # a thread that copied may let go of it later
        numbers = pool.statistics()
        assert numbers.bytes_sent > 6 * size
        assert numbers.bytes_received > 6 * size


@pytest.mark.parametrize(
    "value",
    [bytearray(os.urandom(MIB)), "é" * MIB, array.array("d", range(MIB)), {"a": [b"x" * MIB, "y" * MIB]}],
    ids=lambda value: type(value).__name__,
)
async def test_values_of_many_types_come_back_as_they_went(value: Any) -> None:
    async with Pool(max_workers=1) as pool:
        for _ in range(3):
            assert await pool.run(tasks.echo, value) == value


async def test_map_carries_big_items() -> None:
    items = [os.urandom(MIB // 2) for _ in range(12)]
    async with Pool(max_workers=2) as pool:
        assert await pool.gather(tasks.echo, items) == items


async def test_many_in_flight_do_not_mix_up() -> None:
    values = [bytes([number]) * (100_000 + number) for number in range(200)]
    async with Pool(max_workers=2) as pool:
        assert await asyncio.gather(*(pool.run(tasks.echo, value) for value in values)) == values
        assert not shared(pool).taken


async def test_arguments_of_a_task_nobody_waits_for_stay_until_its_worker_has_read_them(tmp_path: Path) -> None:
    trace = tmp_path / "digest"
    first, second = b"1" * MIB, b"2" * MIB
    async with Pool(max_workers=1) as pool:
        worker = psutil.Process(await pool.run(os.getpid))
        worker.suspend()  # it has been sent the task, and has read nothing
        handle = pool.submit(big_tasks.write_digest, str(trace), first, on_cancel="abandon")
        await asyncio.sleep(0)
        handle.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handle
        assert shared(pool).taken >= MIB
        other = pool.submit(big_tasks.digest, second)  # the same size: it would fit there
        worker.resume()
        assert await other == big_tasks.digest(second)
        assert trace.read_text() == big_tasks.digest(first)
        assert not shared(pool).taken


async def test_arguments_of_a_timed_out_task_stay_until_its_worker_is_dead() -> None:
    async with Pool(max_workers=1) as pool:
        worker = psutil.Process(await pool.run(os.getpid))
        worker.suspend()
        with pytest.raises(TaskTimeout):
            await pool.run(tasks.echo, bytes(MIB), timeout=0.05)
        assert shared(pool).taken >= MIB
        assert await pool.run(big_tasks.digest, b"2" * MIB) == big_tasks.digest(b"2" * MIB)
        assert not worker.is_running()
        assert not shared(pool).taken


async def test_a_running_task_holds_its_arguments_until_it_returns(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(big_tasks.hold_with, gate.address, b"1" * MIB)
        visitor = await gate.arrival()
        assert shared(pool).taken >= MIB
        visitor.let_through()
        assert await handle == big_tasks.digest(b"1" * MIB)
        assert not shared(pool).taken


async def test_queued_and_retracted_tasks_give_their_memory_back(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        waiting = [pool.submit(tasks.echo, bytes(MIB)) for _ in range(5)]
        assert shared(pool).taken >= 5 * MIB
        for task in waiting:
            task.cancel()
        assert not shared(pool).taken
        visitor.let_through()
        await handle


async def test_a_worker_that_dies_takes_no_memory_along() -> None:
    async with Pool(max_workers=1) as pool:
        for _ in range(3):
            with pytest.raises(WorkerLost):
                await pool.run(big_tasks.die_with, bytes(MIB))
            assert not shared(pool).taken
            assert await pool.run(tasks.echo, b"x" * MIB) == b"x" * MIB


async def test_a_retried_task_gets_its_arguments_as_they_were(tmp_path: Path) -> None:
    data = bytearray(os.urandom(MIB))
    expected = big_tasks.digest(data)
    async with Pool(max_workers=1) as pool:
        task = pool.submit(big_tasks.spoil_and_die_once, str(tmp_path / "tried"), data, retries=1)
        data[:] = bytes(len(data))  # ours again as soon as it was submitted
        with pytest.raises(WorkerLost):
            await pool.run(big_tasks.die_with, bytes(MIB))
        assert await task == expected
        assert not shared(pool).taken


async def test_with_the_template_gone_no_arguments_are_overwritten_under_its_workers(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(big_tasks.hold_with, gate.address, b"1" * MIB)
        visitor = await gate.arrival()
        template = psutil.Process(visitor.pid).parent()
        assert template is not None
        template.kill()
        with pytest.raises(WorkerLost):
            await handle
        # The worker's end was not seen, only the template's: its arguments are kept for as long as the pool.
        assert shared(pool).taken >= MIB
        assert await pool.run(tasks.echo, b"2" * MIB) == b"2" * MIB
        assert shared(pool).taken < 2 * MIB


async def test_memory_is_given_back_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_upkeep, "TRIM_AFTER_S", 0.05)
    value = os.urandom(8 * MIB)
    async with Pool(max_workers=2) as pool:
        for _ in range(2):
            assert await asyncio.gather(*(pool.run(tasks.echo, value) for _ in range(4))) == [value] * 4
            assert memory_of(pool) > 8 * MIB
            await until(lambda: memory_of(pool) <= 3 * 4096)
        assert backend_of(pool)._upkeep._timer is None


async def test_memory_of_a_busy_worker_is_left_alone_and_given_back_later(
    monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr(arena_upkeep, "TRIM_AFTER_S", 0.05)
    async with Pool(max_workers=1) as pool:
        assert await pool.run(big_tasks.filled, MIB) == b"x" * MIB
        handle = pool.submit(tasks.hold, gate.address, b"y" * MIB)
        visitor = await gate.arrival()
        upkeep = backend_of(pool)._upkeep
        trims: list[bool] = []
        trim = upkeep._trim

        def watched() -> bool:
            trims.append(trim())
            return trims[-1]

        upkeep._trim = watched
        await until(lambda: len(trims) >= 2)
        assert all(trims), "there is something left to give back"
        assert memory_of(pool) > 2 * MIB
        visitor.let_through()
        assert await handle == b"y" * MIB
        await until(lambda: memory_of(pool) <= 2 * 4096)


async def test_without_room_everything_still_arrives(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    monkeypatch.setattr(outbox, "ARGUMENTS_ROOM", 1)
    monkeypatch.setattr(connection, "RESULTS_ROOM", 1)
    values = [bytes([number]) * (MIB * 2 // 3) for number in range(8)]
    async with Pool(max_workers=1, max_payload=MIB) as pool:
        blocker = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        handles = [pool.submit(tasks.echo, value) for value in values]
        assert shared(pool).taken < MIB
        visitor.let_through()
        await blocker
        assert await asyncio.gather(*handles) == values


async def test_without_shared_memory_everything_still_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError("no such thing here")

    monkeypatch.setattr(outbox, "Arguments", refuse)
    monkeypatch.setattr(connection, "ResultReader", refuse)
    value = os.urandom(4 * MIB)
    async with Pool(max_workers=2) as pool:
        assert await asyncio.gather(*(pool.run(tasks.echo, value) for _ in range(4))) == [value] * 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc's allocator")
async def test_texts_that_follow_each_other_get_the_same_memory_again() -> None:
    text = "x" * MIB
    async with Pool(max_workers=1) as pool:
        counts = [(await pool.run(big_tasks.page_faults_and, text))[0] for _ in range(20)]
        pages = len(text) // 4096
        assert counts[-1] - counts[-11] < 10 * pages / 2, "less than half a text's worth of new pages for each"


@pytest.mark.parametrize("limit", [2**62, 2**63, 3 * MIB + 1000])
async def test_any_limit_will_do(limit: int) -> None:
    """Room for the one can't be had from the system; the other is no multiple of a page."""
    async with Pool(max_workers=1, max_payload=limit) as pool:
        assert await pool.run(tasks.echo, b"x" * MIB) == b"x" * MIB
        assert await pool.run(tasks.echo, b"x" * 3 * MIB) == b"x" * 3 * MIB


async def test_what_is_too_large_is_refused_on_either_side_and_the_pool_goes_on() -> None:
    async with Pool(max_workers=1, max_payload=MIB) as pool:
        with pytest.raises(PayloadTooLarge) as caught:
            await pool.run(tasks.echo, bytes(2 * MIB))
        assert caught.value.side == "arguments"
        pid = await pool.run(os.getpid)
        with pytest.raises(PayloadTooLarge) as caught:
            await pool.run(big_tasks.filled, 2 * MIB)
        assert caught.value.side == "result"
        assert await pool.run(os.getpid) == pid
        assert memory_of(pool) <= 2 * 4096


async def test_a_big_result_that_cannot_be_pickled_names_the_part() -> None:
    async with Pool(max_workers=1, preload=["tests.patient"]) as pool:
        for _ in range(3):
            with pytest.raises(TaskNotPicklable, match=r"result\[1\].lock._lock"):
                await pool.run(big_tasks.make_poisoned, MIB)
            assert await pool.run(big_tasks.filled, MIB) == b"x" * MIB


async def test_big_arguments_that_cannot_be_rebuilt_fail_their_task_alone() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskNotPicklable, match="can't be rebuilt"):
            await pool.run(tasks.echo, [bytes(MIB), tasks.BreaksWhenLoaded()])
        assert not shared(pool).taken
        assert await pool.run(tasks.echo, b"x" * MIB) == b"x" * MIB


async def test_a_forked_child_that_returns_too_does_not_write_into_the_answer() -> None:
    async with Pool(max_workers=1) as pool:
        for _ in range(5):
            assert await pool.run(big_tasks.fork_and_answer, MIB) == b"p" * MIB


@pytest.mark.parametrize("location", [(0, 8), (2**40, 8), (4096, 2**40), (2**64 - 1, 2**64 - 1)])
async def test_a_worker_that_names_memory_which_is_not_there_is_ended_and_nobody_else_notices(
    location: tuple[int, int],
) -> None:
    async with Pool(max_workers=2) as pool:
        with pytest.raises(WorkerLost, match="invalid data"):
            await pool.run(big_tasks.answer_with_location, *location)
        assert await pool.run(tasks.echo, b"x" * MIB) == b"x" * MIB


async def test_what_a_worker_has_read_of_big_arguments_is_not_its_own_memory() -> None:
    async with Pool(max_workers=1, max_worker_memory=200 * MIB) as pool:
        pid = await pool.run(os.getpid)
        handles = [pool.submit(big_tasks.digest, bytes(40 * MIB)) for _ in range(6)]  # 240 MiB, each in its own slot
        assert len(set(await asyncio.gather(*handles))) == 1
        assert await pool.run(os.getpid) == pid
