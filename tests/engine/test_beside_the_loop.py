"""Big payloads are copied in threads: in order, with nothing lost, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lifepool import PayloadTooLarge, Pool, PoolClosed, QueueFull, TaskNotPicklable, TaskTimeout, WorkerLost
from lifepool._core.states import TaskState
from lifepool._transfer import constants
from lifepool.backends.local import inbox, outbox
from lifepool.backends.local.copy_threads import OFF_LOOP_BYTES, CopyThreads
from tests import tasks
from tests.engine import big_tasks
from tests.engine.gates import PATIENCE_S, until
from tests.faults.inside import let_time_pass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIG = OFF_LOOP_BYTES + 1
MIB = 1 << 20


class Brake:
    """Holds the copying threads until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._released = threading.Event()
        self.held = 0

    def _wait(self, threads: CopyThreads) -> None:
        self.held += 1
        while threads.may_go_on() and not self._released.wait(0.001):
            pass

    def reading(self) -> Brake:
        read = inbox._read_off_loop

        def slow(pickled: memoryview, threads: CopyThreads) -> Any:
            self._wait(threads)
            return read(pickled, threads)

        self._patch.setattr(inbox, "_read_off_loop", slow)
        return self

    def pickling(self) -> Brake:
        pickle = outbox.Outbox._pickle

        def slow(box: outbox.Outbox, *rest: Any) -> int | None:
            self._wait(box._threads)
            return pickle(box, *rest)

        self._patch.setattr(outbox.Outbox, "_pickle", slow)
        return self

    def let_go(self) -> None:
        self._released.set()


@pytest.fixture
def brake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brake]:
    brake = Brake(monkeypatch)
    yield brake
    brake.let_go()


# -- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.all_loops
@pytest.mark.parametrize(
    "value",
    [
        os.urandom(BIG),
        bytearray(BIG),
        "é" * BIG,
        [b"x" * MIB] * 3,
        {"a": [bytes(BIG)], "b": 1},
        tuple(range(10**6 // 2)),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_copied_in_a_thread_comes_back_as_it_went(value: Any) -> None:
    async with Pool(max_workers=2) as pool:
        for _ in range(2):
            assert await asyncio.gather(*(pool.run(tasks.echo, value) for _ in range(4))) == [value] * 4


async def test_arrays_come_back_as_they_went_and_can_be_written_to() -> None:
    array = np.arange(BIG // 2).reshape(2, -1)[:, ::2]
    async with Pool(max_workers=1) as pool:
        back = await pool.run(tasks.echo, array)
    assert np.array_equal(back, array)
    back[0, 0] = 5


async def test_the_loop_and_other_workers_go_on_while_a_result_is_read(brake: Brake) -> None:
    brake.reading()
    async with Pool(max_workers=2) as pool:
        big = pool.submit(big_tasks.filled, BIG)
        await until(lambda: brake.held == 1)
        assert {await pool.run(os.getpid) for _ in range(20)}
        assert not big.done()
        brake.let_go()
        assert await big == b"x" * BIG


async def test_what_a_worker_answers_later_waits_for_what_it_answered_before(brake: Brake) -> None:
    brake.reading()
    done: list[str] = []
    async with Pool(max_workers=1) as pool:
        for _ in range(20):
            await pool.run(tasks.echo, 1)  # it is known to be short, and so pipelined
        names = ["big", "small", "stored", "failed", "big too"]
        handles = [
            pool.submit(big_tasks.filled, BIG),
            pool.submit(tasks.echo, 1),
            pool.submit(big_tasks.filled, MIB // 2),
            pool.submit(tasks.fail, ValueError("no")),  # type: ignore[arg-type]
            pool.submit(big_tasks.filled, BIG, b"y"),
        ]
        for name, handle in zip(names, handles, strict=True):
            handle.add_done_callback(partial(lambda name, _: done.append(name), name))
        await until(lambda: brake.held == 1)
        brake.let_go()
        answers = await asyncio.gather(*handles, return_exceptions=True)
    assert done == names
    assert [answers[0], answers[1], answers[2], answers[4]] == [b"x" * BIG, 1, b"x" * (MIB // 2), b"y" * BIG]
    assert isinstance(answers[3], ValueError)


async def test_what_a_worker_had_answered_before_it_died_is_delivered(brake: Brake) -> None:
    brake.reading()
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        big = pool.submit(big_tasks.filled, BIG)
        await until(lambda: brake.held == 1)
        os.kill(pid, 9)
        other = pool.submit(os.getpid)
        brake.let_go()
        assert await big == b"x" * BIG
        assert await other != pid


async def test_of_a_worker_that_dies_the_running_task_alone_is_lost(brake: Brake, tmp_path: Path) -> None:
    brake.reading()
    path = str(tmp_path / "answered")
    async with Pool(max_workers=1) as pool:
        for _ in range(20):
            await pool.run(big_tasks.die_after, path)
        big = pool.submit(big_tasks.filled_and_then_dead, path, BIG)
        dying = pool.submit(big_tasks.die_after, path)
        await until(lambda: brake.held == 1)
        brake.let_go()
        assert await big == b"x" * BIG
        with pytest.raises(WorkerLost):
            await dying


async def test_a_timeout_while_the_answer_is_read_costs_the_worker_nothing(brake: Brake) -> None:
    brake.reading()
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        handle = pool.submit(big_tasks.filled, BIG, timeout=30)
        await until(lambda: brake.held == 1)
        let_time_pass(pool, 30)
        with pytest.raises(TaskTimeout):
            await handle
        brake.let_go()
        for _ in range(3):
            assert await pool.run(tasks.echo, b"y" * BIG) == b"y" * BIG
        assert await pool.run(os.getpid) == pid
        assert not pool.statistics().restarts


async def test_a_drain_waits_for_what_is_being_read(brake: Brake) -> None:
    brake.reading()
    async with Pool(max_workers=1) as pool:
        big = pool.submit(big_tasks.filled, BIG)
        await until(lambda: brake.held == 1)
        draining = asyncio.create_task(pool.drain(PATIENCE_S))
        await asyncio.sleep(0)
        brake.let_go()
        await draining
        assert await big == b"x" * BIG


async def test_the_end_of_the_pool_breaks_off_what_is_being_copied(brake: Brake) -> None:
    brake.pickling()  # not reading as well: a worker has exited when what it sent is read, and that would never be
    async with Pool(max_workers=1) as pool:
        handles = [pool.submit(tasks.echo, bytes(BIG)) for _ in range(3)]
        await until(lambda: brake.held == 2)
        await pool.aclose(0)
        for handle in handles:
            with pytest.raises(PoolClosed):
                await handle


async def test_objects_with_code_of_their_own_are_rebuilt_on_the_loop() -> None:
    async with Pool(max_workers=1) as pool:
        found = await pool.run(big_tasks.made, BIG)
    assert found.data == bytes(BIG)
    assert found.thread == threading.get_ident()


async def test_a_big_result_that_cannot_be_rebuilt_fails_its_task_alone() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskNotPicklable, match="can't be rebuilt"):
            await pool.run(big_tasks.unloadable, BIG)
        assert await pool.run(tasks.echo, b"x" * BIG) == b"x" * BIG


async def test_nonsense_that_was_said_while_a_result_was_read_ends_the_worker_after_it(
    brake: Brake, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    brake.reading()
    # "r+b" in place of "wb": it waits for no reader.
    with open(fifo, "r+b", buffering=0) as writer:
        async with Pool(max_workers=1) as pool:
            pid = await pool.run(os.getpid)
            big = pool.submit(big_tasks.answer_and_lie, BIG, str(fifo))
            members = pool._engine._backend._connections  # type: ignore[union-attr]
            inbox_of = next(iter(members.values())).inbox
            await until(lambda: brake.held == 1)
            writer.write(b"!")
            await until(lambda: len(inbox_of._waiting) > 0)
            brake.let_go()
            assert await big == b"x" * BIG
            assert await pool.run(os.getpid) != pid


# -- arguments --------------------------------------------------------------------------------------------------------


async def test_a_task_whose_arguments_are_being_copied_is_there_and_waits(brake: Brake) -> None:
    brake.pickling()
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(tasks.echo, b"x" * BIG)
        await until(lambda: brake.held == 1)
        assert handle.state is TaskState.QUEUED
        assert pool.statistics().queued == 1
        assert await pool.run(tasks.echo, 1) == 1
        brake.let_go()
        assert await handle == b"x" * BIG


async def test_a_timeout_counts_from_the_submission(brake: Brake) -> None:
    brake.pickling()
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskTimeout):
            await pool.run(tasks.echo, bytes(BIG), timeout=0.05)
        brake.let_go()
        assert await pool.run(tasks.echo, b"x" * BIG) == b"x" * BIG


async def test_a_cancelled_task_is_dropped_and_its_memory_is_free_again(brake: Brake) -> None:
    brake.pickling()
    async with Pool(max_workers=1) as pool:
        handles = [pool.submit(tasks.echo, bytes(BIG)) for _ in range(4)]
        await until(lambda: brake.held == 2)
        for handle in handles:
            handle.cancel()
        brake.let_go()
        assert await pool.run(tasks.echo, b"x" * BIG) == b"x" * BIG
        shared = pool._engine._backend._outbox.shared  # type: ignore[union-attr]
        await until(lambda: not shared.taken)
        assert pool.statistics().cancelled == 4


async def test_what_is_being_copied_counts_for_the_queue(brake: Brake) -> None:
    brake.pickling()
    async with Pool(max_workers=1, max_queue=2) as pool:
        handles = [pool.submit(tasks.echo, b"x" * BIG) for _ in range(2)]
        with pytest.raises(QueueFull):
            pool.submit(tasks.echo, 1)
        brake.let_go()
        assert await asyncio.gather(*handles) == [b"x" * BIG] * 2


async def test_a_drain_waits_for_what_is_being_copied(brake: Brake) -> None:
    brake.pickling()
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(tasks.echo, b"x" * BIG)
        draining = asyncio.create_task(pool.drain(PATIENCE_S))
        await until(lambda: brake.held == 1)
        brake.let_go()
        await draining
        assert await handle == b"x" * BIG


async def test_what_can_be_changed_is_copied_before_submit_returns_and_while_run_waits(brake: Brake) -> None:
    brake.pickling()
    data = bytearray(b"x" * BIG)
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(big_tasks.digest, data)
        nested = pool.submit(big_tasks.digest_of_first, [bytes(data)], data)  # type: ignore[arg-type, call-arg, var-annotated]
        data[:] = bytes(BIG)
        assert await handle == await nested == big_tasks.digest(b"x" * BIG)
        assert brake.held == 0
        waiting = asyncio.create_task(pool.run(big_tasks.digest, data))
        await until(lambda: brake.held == 1)
        brake.let_go()
        assert await waiting == big_tasks.digest(data)


async def test_what_is_too_large_is_refused_at_once() -> None:
    async with Pool(max_workers=1, max_payload=4 * MIB) as pool:
        with pytest.raises(PayloadTooLarge):
            pool.submit(tasks.echo, bytes(5 * MIB))
        with pytest.raises(PayloadTooLarge):
            await pool.run(tasks.echo, bytes(4 * MIB - 8))
        assert await pool.run(tasks.echo, bytes(3 * MIB)) == bytes(3 * MIB)


async def test_what_does_not_work_out_in_the_thread_is_done_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox.Outbox, "_pickle", lambda *_: None)
    monkeypatch.setattr(inbox, "_read_off_loop", lambda *_: inbox._Unreadable)
    async with Pool(max_workers=1) as pool:
        for _ in range(3):
            assert await pool.run(tasks.echo, b"x" * BIG) == b"x" * BIG


async def test_context_goes_along_with_big_arguments_as_it_was_at_the_submission(brake: Brake) -> None:
    brake.pickling()
    big_tasks.request.set("first")
    async with Pool(max_workers=1, carry_context=[big_tasks.request]) as pool:
        handle = pool.submit(big_tasks.tagged, bytes(BIG))
        big_tasks.request.set("second")
        brake.let_go()
        assert await handle == ("first", BIG)


@pytest.mark.parametrize("constants_in_use", [False, True])
async def test_items_of_map_are_copied_in_threads_too(
    brake: Brake, monkeypatch: pytest.MonkeyPatch, constants_in_use: bool
) -> None:
    monkeypatch.setattr(constants, "in_use", constants_in_use)
    async with Pool(max_workers=1) as pool:
        await pool.run(tasks.echo, bytes(BIG))  # the shared memory has room for such a chunk from here on
        shared = pool._engine._backend._outbox.shared  # type: ignore[union-attr]
        shared.expects_big = True  # as after the first such chunk
        brake.pickling()
        results = pool.map(big_tasks.digest, [b"x" * BIG] * 3, chunksize=1)
        first = asyncio.ensure_future(anext(results))
        await until(lambda: brake.held > 0)
        brake.let_go()
        assert [await first, *[each async for each in results]] == [big_tasks.digest(b"x" * BIG)] * 3
