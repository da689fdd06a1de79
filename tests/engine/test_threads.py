"""Every public name from another thread: it works, or refuses and says what to call. And the way in from threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, PoolClosed, TaskHandle, TaskTimeout
from lifepool._engine import snapshot
from lifepool._inside.resources import Resource
from lifepool._pool.bulk_calls import PoolBulk
from lifepool._pool.decorated import PoolBatch, PoolTask
from lifepool._pool.from_thread import FromThread
from lifepool._pool.life import PoolLife
from lifepool.hooks import Hook
from tests import from_thread_tasks, tasks
from tests.engine.gates import PATIENCE_S, Gate, until

if TYPE_CHECKING:
    from collections.abc import Callable

ELSEWHERE = r"belongs to another event loop: from a thread use pool\.from_thread\.run"


#: Without its types: mypy can't see through a generic method that is passed on.
in_thread: Any = asyncio.to_thread


class Context:
    """A pool that runs, one task that is held in it, and one that waits."""

    def __init__(self, pool: Pool, held: TaskHandle[Any], waits: TaskHandle[Any]) -> None:
        self.pool = pool
        self.held = held
        self.waits = waits
        self.hook = Hook()


def works(look: Callable[[Context], object]) -> tuple[str, Callable[[Context], object]]:
    return "works", look


def refuses(call: Callable[[Context], object]) -> tuple[str, Callable[[Context], object]]:
    return "refuses", call


def awaited(make: Callable[[Context], Any]) -> tuple[str, Callable[[Context], object]]:
    """What is awaited, is awaited on an event loop of the thread's own."""

    async def on_another_loop(context: Context) -> None:
        await make(context)

    return refuses(lambda context: asyncio.run(on_another_loop(context)))


async def _first(items: Any) -> None:
    async for _ in items:
        return


TABLE: dict[tuple[type, str], tuple[str, Callable[[Context], object]]] = {
    (PoolLife, "state"): works(lambda c: c.pool.state),
    (PoolLife, "max_workers"): works(lambda c: c.pool.max_workers),
    (PoolLife, "config"): works(lambda c: c.pool.config),
    (PoolLife, "start"): awaited(lambda c: c.pool.start()),
    (PoolLife, "recycle"): awaited(lambda c: c.pool.recycle()),
    (PoolLife, "drain"): awaited(lambda c: c.pool.drain()),
    (PoolLife, "aclose"): awaited(lambda c: c.pool.aclose()),
    (PoolLife, "lifespan"): awaited(lambda c: c.pool.lifespan(None).__aenter__()),
    (PoolLife, "statistics"): works(lambda c: c.pool.statistics().as_dict()),
    (PoolLife, "workers"): works(lambda c: c.pool.workers()),
    (PoolLife, "task_record"): works(lambda c: c.pool.task_record(1)),
    (PoolLife, "task_records"): works(lambda c: c.pool.task_records()),
    (PoolLife, "add_hook"): refuses(lambda c: c.pool.add_hook(c.hook)),
    (PoolLife, "remove_hook"): refuses(lambda c: c.pool.remove_hook(c.pool.hooks[0])),
    (PoolLife, "hooks"): works(lambda c: c.pool.hooks),
    (PoolLife, "tell_hooks"): refuses(lambda c: c.pool.tell_hooks()),
    (PoolLife, "readiness"): works(lambda c: c.pool.readiness()),
    (Pool, "run"): awaited(lambda c: c.pool.run(tasks.double, 1)),
    (Pool, "submit"): refuses(lambda c: c.pool.submit(tasks.double, 1)),
    (Pool, "cancel"): works(lambda c: c.pool.cancel(c.waits.id)),
    (PoolBulk, "map"): awaited(lambda c: _first(c.pool.map(tasks.double, [1]))),
    (PoolBulk, "gather"): awaited(lambda c: c.pool.gather(tasks.double, [1])),
    (Pool, "task"): works(lambda c: c.pool.task(tasks.nothing)),
    (Pool, "batch"): works(lambda c: c.pool.batch(from_thread_tasks.lengths)),
    (Pool, "resource"): works(lambda c: c.pool.resource(tasks.nothing)),
    (Pool, "from_thread"): works(lambda c: c.pool.from_thread),
    (TaskHandle, "id"): works(lambda c: c.held.id),
    (TaskHandle, "state"): works(lambda c: c.held.state),
    (TaskHandle, "progress"): works(lambda c: c.held.progress),
    (TaskHandle, "abort"): works(lambda c: c.waits.abort(TaskTimeout(1.0, started=False))),
    (TaskHandle, "cancel"): works(lambda c: c.waits.cancel()),
    (PoolTask, "submit"): refuses(lambda c: c.pool.task(tasks.nothing).submit()),
    (PoolTask, "__call__"): awaited(lambda c: c.pool.task(tasks.nothing)()),
    (PoolBatch, "__call__"): awaited(lambda c: c.pool.batch(from_thread_tasks.lengths)("a")),
    (PoolBatch, "waiting"): works(lambda c: c.pool.batch(from_thread_tasks.lengths).waiting),
    (PoolBatch, "flush"): refuses(lambda c: c.pool.batch(from_thread_tasks.lengths).flush()),
    (Resource, "close"): works(lambda c: c.pool.resource(tasks.nothing).close()),
    (Resource, "__call__"): works(lambda c: c.pool.resource(tasks.nothing)()),
    (FromThread, "run"): works(lambda c: c.pool.from_thread.call(c.pool.readiness)),
    (FromThread, "call"): works(lambda c: c.pool.from_thread.call(c.pool.readiness)),
}


def public(cls: type) -> set[str]:
    return {name for name in vars(cls) if not name.startswith("_") or name == "__call__"}


@pytest.mark.parametrize("cls", [PoolLife, PoolBulk, Pool, TaskHandle, PoolTask, PoolBatch, Resource, FromThread])
def test_every_public_name_has_a_row(cls: type) -> None:
    assert {name for owner, name in TABLE if owner is cls} == public(cls)


@pytest.mark.parametrize(("cls", "name"), TABLE, ids=lambda part: getattr(part, "__name__", part))
async def test_from_another_thread_it_works_or_says_what_to_call(cls: type, name: str, gate: Gate) -> None:
    expected, call = TABLE[cls, name]
    hook = Hook()
    async with Pool(max_workers=1) as pool:
        pool.add_hook(hook)
        context = Context(pool, pool.submit(tasks.hold, gate.address), pool.submit(tasks.double, 1))
        visitor = await gate.arrival()
        if expected == "works":
            await asyncio.to_thread(call, context)
        else:
            with pytest.raises(RuntimeError, match=ELSEWHERE):
                await asyncio.to_thread(call, context)
        visitor.let_through()
        await asyncio.wait([context.held, context.waits], timeout=PATIENCE_S)
        assert await pool.run(tasks.double, 2) == 4, "nothing was harmed"
        assert pool.hooks == (hook,)


async def test_a_task_can_be_cancelled_from_any_thread(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        running = pool.submit(tasks.hold, gate.address)
        await gate.arrival()
        queued, aborted = pool.submit(tasks.double, 1), pool.submit(tasks.double, 2)
        assert await asyncio.to_thread(pool.cancel, queued.id)
        assert await asyncio.to_thread(running.cancel)
        await asyncio.to_thread(aborted.abort, TaskTimeout(1.0, started=False))
        await asyncio.wait([running, queued, aborted], timeout=PATIENCE_S)
        assert (running.cancelled(), queued.cancelled()) == (True, True)
        with pytest.raises(TaskTimeout):
            await aborted
        for over in (running, queued):
            assert not await asyncio.to_thread(over.cancel)
            assert not await asyncio.to_thread(pool.cancel, over.id)
        assert await pool.run(tasks.double, 2) == 4


async def test_many_threads_may_cancel_and_look_while_tasks_come_and_go() -> None:
    async with Pool(max_workers=2, max_queue=10_000) as pool:
        stop = threading.Event()
        raised: list[BaseException] = []
        handles: list[TaskHandle[int]] = []

        def disturb() -> None:
            try:
                while not stop.is_set():
                    pool.statistics()
                    pool.workers()
                    pool.task_records()
                    assert pool.readiness().reasons in ((), ("saturated",))
                    if handles:
                        pool.cancel(handles[-1].id)
            except BaseException as error:
                raised.append(error)

        threads = [threading.Thread(target=disturb) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            handles += [pool.submit(tasks.double, number) for number in range(50)]
            await asyncio.wait(handles[-50:], timeout=PATIENCE_S)
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, PATIENCE_S)
        assert raised == []
        assert all(handle.cancelled() or handle.result() in range(100) for handle in handles)
        assert await pool.run(tasks.double, 2) == 4


def test_a_look_that_meets_a_change_is_taken_again() -> None:
    tries = iter([RuntimeError("dictionary changed size"), IndexError(), None])

    def look() -> str:
        if (error := next(tries)) is not None:
            raise error
        return "seen"

    assert snapshot.read_consistently(look) == "seen"

    def never() -> str:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        snapshot.read_consistently(never)


def test_after_its_loop_was_closed_a_handle_can_no_longer_be_cancelled_from_a_thread(gate: Gate) -> None:
    kept: list[TaskHandle[Any]] = []

    async def use() -> None:
        async with Pool(max_workers=1) as pool:
            kept.append(pool.submit(tasks.double, 1))

    asyncio.run(use())
    cancelled: list[bool] = []
    thread = threading.Thread(target=lambda: cancelled.append(kept[0].cancel()))
    thread.start()
    thread.join(PATIENCE_S)
    assert cancelled == [False]


# --- from_thread ----------------------------------------------------------------------------------------------------

language: contextvars.ContextVar[str] = contextvars.ContextVar("language", default="en")


async def test_a_thread_runs_tasks_and_gets_their_answers_and_errors() -> None:
    async with Pool(max_workers=1) as pool:
        run = pool.from_thread.run
        assert await in_thread(run, tasks.double, 21) == 42
        with pytest.raises(ValueError, match="no luck"):
            await in_thread(run, tasks.fail, "no luck")
        with pytest.raises(TypeError, match="does not know xyz"):
            await in_thread(run, tasks.double, 1, xyz=2)
        assert await in_thread(pool.from_thread.call, pool.gather, tasks.double, [1, 2]) == [2, 4]
        hook = Hook()
        await in_thread(pool.from_thread.call, pool.add_hook, hook)
        assert pool.hooks == (hook,)


async def test_decorated_functions_can_be_run_from_threads() -> None:
    pool = from_thread_tasks.pool
    async with pool:
        assert await in_thread(pool.from_thread.run, from_thread_tasks.shout, "a") == "A!"
        assert await in_thread(pool.from_thread.run, from_thread_tasks.length_of, "abc") == 3
        assert await in_thread(pool.from_thread.call, from_thread_tasks.shout, "a", mark="?") == "A?"


async def test_a_timeout_is_the_tasks_own(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskTimeout):
            await in_thread(pool.from_thread.run, tasks.hold, gate.address, timeout=0.2)
        assert await pool.run(tasks.double, 2) == 4


async def test_the_threads_context_goes_along() -> None:
    async def tell() -> str:
        return language.get()

    async with Pool(backend="inline") as pool:
        language.set("de")
        assert await in_thread(pool.from_thread.call, tell) == "de"


async def test_on_the_loops_own_thread_it_refuses_instead_of_waiting_for_itself() -> None:
    async with Pool(backend="inline") as pool:
        with pytest.raises(RuntimeError, match=r"would wait for itself. Write 'await pool.run\(fn, ...\)' there"):
            pool.from_thread.run(tasks.double, 1)


async def test_what_would_end_the_loop_is_raised_in_the_thread() -> None:
    def leave() -> None:
        raise SystemExit(3)

    async with Pool(backend="inline") as pool:
        with pytest.raises(SystemExit):
            await asyncio.get_running_loop().run_in_executor(None, raised_by, pool, leave)
        assert await pool.run(tasks.double, 2) == 4


def raised_by(pool: Pool, function: Callable[[], object]) -> None:
    """An executor's thread would take what ends a program for its own end."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            pool.from_thread.call(function)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE_S)
    raise caught[0]


async def test_without_a_running_pool_it_says_so() -> None:
    pool = Pool(backend="inline")
    with pytest.raises(PoolClosed, match="never started"):
        await in_thread(pool.from_thread.run, tasks.double, 1)
    async with pool:
        pass
    with pytest.raises(PoolClosed, match="the pool is closed"):
        await in_thread(pool.from_thread.run, tasks.double, 1)


async def test_a_thread_that_waits_when_the_pool_ends_hears_of_it(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    await pool.start()
    waiting = asyncio.ensure_future(in_thread(pool.from_thread.run, tasks.hold, gate.address))
    await gate.arrival()
    await pool.aclose(0)
    with pytest.raises(PoolClosed, match="closed before the task was done"):
        await asyncio.wait_for(waiting, PATIENCE_S)


def test_a_thread_that_waits_when_the_loop_is_closed_hears_of_it(gate: Gate) -> None:
    """Nobody closed the pool: its loop just ended."""
    raised: list[BaseException] = []
    threads: list[threading.Thread] = []
    pool = Pool(max_workers=1)

    def wait() -> None:
        try:
            pool.from_thread.run(tasks.hold, gate.address)
        except BaseException as error:
            raised.append(error)

    async def use() -> None:
        await pool.start()
        threads.append(threading.Thread(target=wait))
        threads[0].start()
        await gate.arrival()

    asyncio.run(use())
    threads[0].join(PATIENCE_S)
    assert [type(error) for error in raised] == [PoolClosed]
    asyncio.run(pool.aclose())


def test_a_thread_whose_loop_stands_still_for_good_hears_of_it(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifepool._pool.from_thread.LOOK_S", 0.01)
    monkeypatch.setattr("lifepool._pool.from_thread.GONE_S", 0.05)
    pool = Pool(backend="inline")
    with asyncio.Runner() as runner:
        runner.run(pool.start())
        raised: list[BaseException] = []

        def wait() -> None:
            try:
                pool.from_thread.run(tasks.double, 1)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(PATIENCE_S)
        assert str(raised[0]).startswith("the pool's event loop has ended")
        runner.run(pool.aclose())


async def test_a_cancelled_task_raises_in_the_thread(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        waiting = asyncio.ensure_future(in_thread(pool.from_thread.run, tasks.hold, gate.address))
        await gate.arrival()
        await until(lambda: pool.cancel(1))
        with pytest.raises(asyncio.CancelledError):  # the thread's is translated on its way back
            await asyncio.wait_for(waiting, PATIENCE_S)
