"""Hooks that raise, more than once and whatever it is; hooks that come, go and call the pool from within a call."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskNotPicklable
from lifepool.hooks import Hook, TaskRecord, WorkerExit
from tests import tasks
from tests.engine.gates import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.hooks import WatchedPool

METHODS = [
    "pool_started", "task_called", "propagate_context", "task_submitted", "task_sent", "task_settled", "tasks_settled",
    "worker_ready", "worker_exited", "worker_logged", "task_refused",
]  # fmt: skip
RAISED: list[type[BaseException]] = [
    RuntimeError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, StopIteration,
]  # fmt: skip


class Raises(Hook):
    """Raises in every method, its end included, and counts the calls."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error
        self.calls: list[str] = []


def _raising(method: str) -> Any:
    def raises(self: Raises, *arguments: object) -> None:
        self.calls.append(method)
        raise self.error(method)

    return raises


for _method in (*METHODS, "pool_closed"):
    setattr(Raises, _method, _raising(_method))


class Heard(Hook):
    def __init__(self) -> None:
        self.settled: list[int] = []
        self.told: list[str] = []

    def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
        self.settled += [task.id for task in tasks]

    def pool_started(self, pool: WatchedPool) -> None:
        self.told.append("started")

    def pool_closed(self, pool: WatchedPool) -> None:
        self.told.append("closed")


def complaints(caplog: pytest.LogCaptureFixture) -> int:
    return caplog.text.count("is not called any more")


@pytest.mark.parametrize("error", RAISED)
async def test_a_hook_that_raises_everywhere_harms_nobody_whatever_it_raises(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    pool, raises, heard = Pool(max_workers=1), Raises(error), Heard()
    pool.add_hook(raises)
    pool.add_hook(heard)
    async with pool:
        assert await pool.gather(tasks.double, range(3), chunksize=1) == [0, 2, 4]
        assert pool.readiness().ready
        assert pool.hooks == (heard,)
    assert raises.calls == ["worker_ready"], "the pool was not up yet, so it has nothing to give back"
    assert heard.settled == [1, 2, 3]
    assert heard.told == ["started", "closed"]
    assert complaints(caplog) == 1


@pytest.mark.parametrize("first", METHODS)
async def test_a_hook_that_raises_in_two_methods_is_told_of_its_end_once(
    first: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It raises in one method, then, being taken out, over the batch that waits for it and over its end."""

    class Twice(Hook):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def _raise(self, method: str) -> None:
            self.calls.append(method)
            raise RuntimeError(method)

    for method in {first, "tasks_settled", "pool_closed"}:
        setattr(Twice, method, lambda self, *_, method=method: self._raise(method))
    twice, heard = Twice(), Heard()
    async with Pool(max_workers=1) as pool:
        pool.add_hook(heard)
        pool.add_hook(twice)
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.echo, lambda: 1)
        await pool.run(tasks.double, 1)
        await pool.run(tasks.double, 2)
        pool.tell_hooks()
        assert await pool.run(tasks.double, 3) == 6
        assert pool.readiness().ready
    assert twice.calls.count("pool_closed") == 1
    assert len(twice.calls) == len(set(twice.calls)), "called again after it had raised"
    assert complaints(caplog) == 1
    assert heard.settled == [1, 2, 3]


async def test_a_hook_that_is_removed_while_its_last_batch_makes_it_raise_is_gone_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Breaks(Heard):
        def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
            super().tasks_settled(tasks)
            raise OSError("the disk is full")

    breaks = Breaks()
    async with Pool(backend="inline") as pool:
        pool.add_hook(breaks)
        await pool.run(tasks.double, 1)
        pool.remove_hook(breaks)
        assert (pool.hooks, breaks.settled) == ((), [1])
        assert breaks.told == ["started", "closed"]
        with pytest.raises(ValueError, match="does not watch"):
            pool.remove_hook(breaks)
        assert await pool.run(tasks.double, 2) == 4
    assert breaks.told == ["started", "closed"]
    assert complaints(caplog) == 1


async def test_a_hook_that_was_removed_by_another_is_not_called_any_more() -> None:
    class Jealous(Hook):
        def __init__(self) -> None:
            self.other: Hook | None = None

        def task_submitted(self, task: TaskRecord) -> None:
            if self.other is not None:
                pool.remove_hook(self.other)
                pool.remove_hook(self)

    class Other(Heard):
        def task_submitted(self, task: TaskRecord) -> None:
            self.told.append("submitted")

    jealous, other = Jealous(), Other()
    async with Pool(backend="inline") as pool:
        pool.add_hook(jealous)
        pool.add_hook(other)
        jealous.other = other
        await pool.run(tasks.double, 1)
        assert pool.hooks == ()
    assert other.told == ["started", "closed"]


async def test_a_hook_may_bring_another_one() -> None:
    late = Heard()

    class Brings(Hook):
        def pool_started(self, pool: WatchedPool) -> None:
            pool.add_hook(late)

        def task_submitted(self, task: TaskRecord) -> None:
            pool.add_hook(late)  # it watches already

    pool = Pool(backend="inline")
    pool.add_hook(Brings())
    async with pool:
        await pool.run(tasks.double, 1)
        assert len(pool.hooks) == 2
    assert (late.told, late.settled) == (["started", "closed"], [1])


async def test_a_hook_may_submit_cancel_and_close_from_within_a_call() -> None:
    class Busy(Hook):
        def __init__(self) -> None:
            self.handles: list[Any] = []
            self.closing: asyncio.Task[None] | None = None

        def task_settled(self, task: TaskRecord) -> None:
            assert not pool.cancel(task.id)
            if len(self.handles) < 2:
                self.handles += [pool.submit(tasks.double, 10), pool.submit(tasks.double, 20)]
                pool.cancel(self.handles[1].id)
            elif self.closing is None:
                self.closing = asyncio.ensure_future(pool.aclose())

    busy = Busy()
    async with Pool(max_workers=1) as pool:
        pool.add_hook(busy)
        assert await pool.run(tasks.double, 1) == 2
        await until(lambda: pool.state.value == "closed")
        assert await busy.handles[0] == 20
        assert busy.handles[1].cancelled()
        assert busy.closing is not None
        await busy.closing


async def test_a_hook_that_comes_while_the_pool_ends_is_told_of_no_end() -> None:
    late = Heard()

    class Brings(Hook):
        def worker_exited(self, exit: WorkerExit) -> None:
            pool.add_hook(late)

    pool = Pool(max_workers=1)
    pool.add_hook(Brings())
    async with pool:
        pass
    assert late.told == []
    async with pool:
        pass
    assert late.told == ["started", "closed"]


async def test_context_that_can_not_be_sent_is_the_hooks_mistake_and_not_the_tasks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Locked(Hook):
        def propagate_context(self, task: TaskRecord) -> Any:
            return lambda: None

    heard = Heard()
    async with Pool(max_workers=1) as pool:
        pool.add_hook(Locked())
        pool.add_hook(heard)
        assert await pool.run(tasks.double, 1) == 2
        assert pool.hooks == (heard,)
        pool.add_hook(Locked())
        assert len(await pool.run(tasks.echo, b"x" * 5_000_000)) == 5_000_000, "also if it is copied in a thread"
        assert pool.hooks == (heard,)
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.echo, lambda: 1)
        assert pool.hooks == (heard,)
    assert complaints(caplog) == 2


class Heavy:
    """PropagatedContext that can't be restored."""

    def restore(self) -> None:
        raise RuntimeError("no tracer here")


async def test_context_that_can_not_be_restored_does_not_hurt_the_task() -> None:
    class Packs(Hook):
        def propagate_context(self, task: TaskRecord) -> Heavy:
            return Heavy()

    async with Pool(max_workers=1) as pool:
        pool.add_hook(Packs())
        assert await pool.run(tasks.double, 21) == 42


async def test_an_async_method_is_refused_since_nobody_would_await_it() -> None:
    class Async(Hook):
        async def task_settled(self, task: TaskRecord) -> None:  # type: ignore[override]
            """Never awaited."""

    pool = Pool(backend="inline")
    with pytest.raises(TypeError, match=r"Async.task_settled is async, but hooks are called"):
        pool.add_hook(Async())
    assert pool.hooks == ()


async def test_a_hook_that_can_not_even_be_shown_is_disabled(caplog: pytest.LogCaptureFixture) -> None:
    class Shy(Hook):
        def __repr__(self) -> str:
            raise RuntimeError("no")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        __hash__ = Hook.__hash__

        def task_submitted(self, task: TaskRecord) -> None:
            raise RuntimeError("no")

    async with Pool(backend="inline") as pool:
        pool.add_hook(Shy())
        assert await pool.run(tasks.double, 1) == 2
        assert pool.hooks == ()
    assert complaints(caplog) == 1


async def test_a_hook_that_is_added_twice_is_told_once() -> None:
    heard = Heard()
    async with Pool(backend="inline") as pool:
        for _ in range(2):
            pool.add_hook(heard)
        await pool.run(tasks.double, 1)
    assert (heard.told, heard.settled) == (["started", "closed"], [1])


async def test_logs_of_workers_that_make_a_hook_raise_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Logs(Hook):
        def worker_logged(self, log: dict[str, Any]) -> None:
            raise SystemExit(1)

    pool = Pool(max_workers=1)
    pool.add_hook(Logs())
    async with pool:
        await pool.run(logging.getLogger("tests").error, "hello")
        await until(lambda: pool.hooks == ())
        assert await pool.run(tasks.double, 1) == 2
    assert complaints(caplog) == 1
