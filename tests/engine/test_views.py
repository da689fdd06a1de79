"""``copy=False``: read-only views of shared memory, which nobody writes anew as long as a worker may look at them."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lifepool import BackendUnsupported, PayloadTooLarge, Pool, TaskNotPicklable, WorkerLost
from lifepool._core.framing import FramingError
from lifepool.backends.local import outbox
from lifepool.backends.local.shared import argument_views as views
from tests import tasks
from tests.engine import big_tasks
from tests.engine.gates import until

if TYPE_CHECKING:
    from lifepool.backends.local.shared.arena import Arguments

MIB = 1 << 20


def shared(pool: Pool) -> Arguments:
    found: Arguments | None = pool._engine._backend._outbox.shared  # type: ignore[union-attr]
    assert found is not None
    return found


def ones(size: int = MIB, value: int = 1) -> Any:
    return np.full(size, value, dtype=np.uint8)


@pytest.mark.all_loops
@pytest.mark.parametrize("size", [0, 100, 100_000, 5 * MIB])
async def test_an_array_is_seen_as_it_is_and_cannot_be_written_to(size: int) -> None:
    async with Pool(max_workers=1) as pool:
        for _ in range(2):
            assert await pool.run(big_tasks.look, ones(size), copy=False) == (False, size, 0)
        with pytest.raises(ValueError, match="read-only"):
            await pool.run(big_tasks.write_into, ones(max(size, 1)), copy=False)
        await until(lambda: not shared(pool).taken)  # that it lets go is said on another way than its answer


async def test_a_pickle_buffer_arrives_as_a_read_only_memoryview() -> None:
    async with Pool(max_workers=1) as pool:
        for data in (bytearray(b"x" * MIB), b"x" * MIB):
            assert await pool.run(big_tasks.digest, pickle.PickleBuffer(data), copy=False) == big_tasks.digest(data)
            with pytest.raises(TypeError, match="read-only"):
                await pool.run(big_tasks.write_into_buffer, pickle.PickleBuffer(data), copy=False)  # type: ignore[arg-type]


async def test_several_arrays_and_other_arguments_go_together() -> None:
    mixed = [ones(3), {"a": ones(MIB, 2)}, np.arange(10)[::2], np.asfortranarray(np.ones((300, 300))), "text"]
    async with Pool(max_workers=1) as pool:
        back = await pool.run(tasks.echo, mixed, copy=False)
        handle = pool.submit(tasks.echo, mixed, copy=False)
        mixed[1]["a"][:] = 0  # ours again when submit returned
        later = await handle
    for found in (back, later):
        assert found[4] == "text"
        assert found[1]["a"].sum() == 2 * MIB
        assert np.array_equal(found[2], mixed[2])
        assert np.array_equal(found[3], mixed[3])


async def test_what_a_task_has_kept_is_never_overwritten_and_is_free_when_it_lets_go() -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(big_tasks.keep, ones(MIB, 7), copy=False)
        assert shared(pool).taken >= MIB
        for _ in range(5):
            assert await pool.run(big_tasks.look, ones(MIB, 3), copy=False) == (False, 3 * MIB, 0)
            assert await pool.run(tasks.echo, b"y" * MIB) == b"y" * MIB
        assert await pool.run(big_tasks.sums_of_kept) == [7 * (MIB - 1)]
        assert await pool.run(big_tasks.let_go) == pid
        await until(lambda: not shared(pool).taken)


async def test_a_slice_of_a_memoryview_that_was_kept_counts_as_well() -> None:
    async with Pool(max_workers=1) as pool:
        buffer: Any = pickle.PickleBuffer(b"7" * MIB)
        assert await pool.run(big_tasks.slice_kept, buffer, copy=False) == MIB
        assert shared(pool).taken >= MIB
        assert await pool.run(big_tasks.look, ones(MIB, 3), copy=False) == (False, 3 * MIB, 0)
        assert await pool.run(big_tasks.bytes_of_kept) == [b"7" * 10]


async def test_a_worker_that_keeps_too_much_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=1, max_payload=4 * MIB) as pool:
        with caplog.at_level(logging.WARNING, "lifepool"):
            pids = [await pool.run(big_tasks.keep, ones(MIB), copy=False) for _ in range(8)]
        await until(lambda: pool.statistics().restarts.get("kept_views", 0) >= 1)
        assert len(set(pids)) >= 2
        assert "keeps views" in caplog.text
        await until(lambda: shared(pool).taken <= 6 * MIB)


async def test_what_only_garbage_keeps_is_collected_before_a_worker_is_replaced() -> None:
    async with Pool(max_workers=1, max_payload=4 * MIB) as pool:
        pids = {await pool.run(big_tasks.keep_in_a_cycle, ones(MIB), copy=False) for _ in range(12)}
        assert len(pids) == 1
        assert not pool.statistics().restarts


async def test_a_task_that_raises_gives_its_views_back() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(ValueError, match="1"):
            await pool.run(big_tasks.raise_with, ones(), copy=False)
        await until(lambda: not shared(pool).taken)


async def test_a_child_that_a_task_forked_may_look_for_as_long_as_it_likes() -> None:
    async with Pool(max_workers=1) as pool:
        assert await pool.run(big_tasks.fork_with, ones(MIB, 9), copy=False) == 9
        assert shared(pool).taken >= MIB
        os.kill(await pool.run(os.getpid), 9)
        await until(lambda: not shared(pool).taken)


async def test_the_views_of_a_dead_worker_are_free_and_its_task_is_tried_again_with_the_same(tmp_path: Any) -> None:
    async with Pool(max_workers=1) as pool:
        await pool.run(big_tasks.keep, ones(), copy=False)
        with pytest.raises(WorkerLost):
            await pool.run(big_tasks.die_with, ones(), copy=False)
        assert not shared(pool).taken
        task = pool.submit(  # type: ignore[call-arg, var-annotated]
            big_tasks.digest_unless_first, str(tmp_path / "tried"), pickle.PickleBuffer(b"x" * MIB),  # type: ignore[arg-type]
            copy=False, retries=1,
        )  # fmt: skip
        assert await task == big_tasks.digest(b"x" * MIB)
        assert not shared(pool).taken


async def test_without_room_it_is_the_same_but_for_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError("no such thing here")

    monkeypatch.setattr(outbox, "Arguments", refuse)
    async with Pool(max_workers=1) as pool:
        for size in (100, MIB):
            assert (await pool.run(big_tasks.look, ones(size), copy=False))[:2] == (False, size)
            with pytest.raises(ValueError, match="read-only"):
                await pool.run(big_tasks.write_into, ones(size), copy=False)


async def test_errors_of_pickling_are_the_usual_ones() -> None:
    async with Pool(max_workers=1, max_payload=MIB) as pool:
        with pytest.raises(PayloadTooLarge):
            await pool.run(tasks.echo, ones(2 * MIB), copy=False)
        with pytest.raises(TaskNotPicklable, match=r"args\[1\]"):
            await pool.run(tasks.echo, ones(), lambda: None, copy=False)  # type: ignore[arg-type, call-arg]
        assert not shared(pool).taken


async def test_a_decorated_function_may_have_views() -> None:
    pool = Pool(max_workers=1)
    look = pool.task(copy=False)(big_tasks.look)
    async with pool:
        assert (await look(ones()))[:2] == (False, MIB)


async def test_many_at_the_same_time_do_not_mix_up() -> None:
    async with Pool(max_workers=2) as pool:
        handles = [pool.submit(big_tasks.look, ones(70_000, value), copy=False) for value in range(60)]
        assert [answer[1] for answer in await asyncio.gather(*handles)] == [70_000 * value for value in range(60)]
        await until(lambda: not shared(pool).taken)


async def test_inline_gives_views_of_what_is_the_callers() -> None:
    async with Pool(backend="inline") as pool:
        assert (await pool.run(big_tasks.look, ones(), copy=False))[:2] == (False, MIB)
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.echo, lambda: None, copy=False)


async def test_a_backend_without_views_refuses() -> None:
    async with Pool(backend="executor", max_workers=1) as pool:
        with pytest.raises(BackendUnsupported, match="copy=False") as caught:
            await pool.run(big_tasks.look, ones(), copy=False)
    assert caught.value.capability == "views"


def test_only_what_is_in_the_file_can_be_viewed() -> None:
    fd = os.memfd_create("test")
    os.ftruncate(fd, 4096)
    made = views.Views(fd, MIB)
    for location in (b"", b"x" * 16, (4096).to_bytes(8, "little") + (4096).to_bytes(8, "little")):
        with pytest.raises(FramingError):
            made.open(1, memoryview(location))
    os.close(fd)
