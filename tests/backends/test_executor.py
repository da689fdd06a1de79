"""What is particular to running over somebody else's executor."""

from __future__ import annotations

import asyncio
import errno
import functools
import multiprocessing
import os
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, ClassVar, NoReturn

import pytest

from lifepool import BackendUnavailable, Pool, TaskNotPicklable, TaskTimeout, WorkerLost, WorkerStartError
from lifepool.backends.executor import ExecutorBackend
from tests import tasks
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.engine.leaving import HOW, LeavesElsewhere, LeavesWhenPickled, make_leaving, make_leaving_when_pickled
from tests.faults.inside import backend_of


async def test_tasks_run_in_processes_of_the_standard_library() -> None:
    async with Pool(backend="executor", max_workers=2) as pool:
        pids = await pool.gather(tasks.pid_for, range(10), chunksize=1)
        assert os.getpid() not in pids
        assert len(set(pids)) <= 2


async def test_the_initializer_runs_in_each_process() -> None:
    options: dict[str, Any] = {"initializer": tasks.load, "initargs": ("model",)}
    async with Pool(backend="executor", max_workers=1, **options) as pool:
        assert (await pool.run(tasks.what_is_loaded))[1] == ["model"]


async def test_a_process_that_dies_loses_what_was_running_and_the_pool_goes_on() -> None:
    async with Pool(backend="executor", max_workers=1) as pool:
        for _ in range(2):
            with pytest.raises(WorkerLost, match="the executor broke"):
                await pool.run(tasks.exit_hard, 3)
            assert await pool.run(tasks.double, 21) == 42


async def test_a_task_that_passed_its_timeout_keeps_its_slot_until_it_returns(gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool(backend=executor, max_workers=1) as pool:
            with pytest.raises(TaskTimeout):
                await pool.run(tasks.hold, gate.address, timeout=0.5)
            waiting = pool.submit(tasks.double, 1)
            assert waiting.state.value == "queued"
            (await gate.arrival()).let_through()
            assert await waiting == 2


async def test_closing_does_not_wait_for_a_task_that_does_not_end(gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool(backend=executor, max_workers=1, drain_timeout=0.05) as pool:
            held = pool.submit(tasks.hold, gate.address)
            visitor = await gate.arrival()
        assert held.cancelled() or held.exception() is not None
        visitor.let_through()


async def test_an_executor_that_can_not_be_made_fails_the_start() -> None:
    def fail() -> Executor:
        raise OSError("no processes left")

    pool = Pool(backend=ExecutorBackend(fail, slots=1), max_workers=1)
    with pytest.raises(WorkerStartError, match="no processes left"):
        await pool.start()


async def is_refused_from_now_on(pool: Pool) -> None:
    """No task is lost without a word, none hangs, and the pool says that it is of no use."""
    async with asyncio.timeout(PATIENCE_S):
        await until(lambda: pool.readiness().reasons == ("crash-looping",))
        with pytest.raises(WorkerStartError, match="the executor can't run tasks") as caught:
            await pool.run(tasks.double, 1)
        assert "a new executor and a new pool" in caught.value.hint


async def test_a_task_for_an_executor_that_was_shut_down_never_started_and_is_told_so() -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool(backend=executor, max_workers=1) as pool:
            executor.shutdown()
            handles = [pool.submit(tasks.double, number) for number in range(3)]
            done, _ = await asyncio.wait(handles, timeout=PATIENCE_S)
            assert len(done) == 3
            first = handles[0].exception()
            assert isinstance(first, BackendUnavailable)
            assert "did not start" in str(first)
            assert "close the pool before" in first.hint
            await is_refused_from_now_on(pool)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["main_thread", "another_thread"])
async def test_tasks_that_an_executor_cancels_when_it_is_shut_down_end(elsewhere: bool, gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool(backend=executor, max_workers=3) as pool, asyncio.timeout(PATIENCE_S):
            held = pool.submit(tasks.hold, gate.address, "held")
            visitor = await gate.arrival()
            waiting = [pool.submit(tasks.double, number) for number in range(2)]  # with the executor, and not begun
            later = pool.submit(tasks.double, 3)
            shutdown = functools.partial(executor.shutdown, wait=False, cancel_futures=True)
            await asyncio.to_thread(shutdown) if elsewhere else shutdown()
            for handle in (*waiting, later):
                with pytest.raises(BackendUnavailable, match="did not start"):
                    await handle
            visitor.let_through()
            assert await held == "held"  # what it runs, it finishes
            assert pool.statistics().lost == 0
            await is_refused_from_now_on(pool)


async def test_an_executor_of_the_user_that_broke_is_gone_for_good() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        async with Pool(backend=executor, max_workers=1) as pool:
            with pytest.raises(WorkerLost, match="the executor broke"):
                await pool.run(tasks.exit_hard, 3)
            await is_refused_from_now_on(pool)


class Moody(ThreadPoolExecutor):
    """Refuses as many tasks as it is told to."""

    refusals: ClassVar[list[Exception]] = []

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        if self.refusals:
            raise self.refusals.pop()
        return super().submit(*args, **kwargs)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files"), "limit of open files"),
        (ValueError("not today"), "a new executor"),
    ],
)
async def test_a_refusal_that_passes_costs_that_task_alone(error: Exception, advice: str, gate: Gate) -> None:
    with Moody(2) as executor:
        async with Pool(backend=executor, max_workers=2) as pool, asyncio.timeout(PATIENCE_S):
            held = pool.submit(tasks.hold, gate.address, "held")
            visitor = await gate.arrival()
            Moody.refusals.append(error)
            with pytest.raises(BackendUnavailable, match="did not start") as caught:
                await pool.run(tasks.double, 1)
            assert advice in caught.value.hint
            assert caught.value.__cause__ is error
            assert await pool.run(tasks.double, 21) == 42
            visitor.let_through()
            assert await held == "held"
            assert await pool.run(tasks.double, 21) == 42


async def test_a_pool_of_processes_that_broke_between_two_tasks_is_replaced_and_no_task_is_lost() -> None:
    async with Pool(backend="executor", max_workers=1) as pool, asyncio.timeout(PATIENCE_S):
        assert await pool.run(tasks.double, 1) == 2
        executor: Any = backend_of(pool)._executor
        executor._broken = "a process died"  # what it says of itself before its futures know
        assert await pool.run(tasks.double, 21) == 42
        assert pool.statistics().lost == 0


async def test_an_answer_that_can_not_be_told_of_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    with ThreadPoolExecutor(2) as executor:
        async with Pool(backend=executor, max_workers=2) as pool, asyncio.timeout(PATIENCE_S):
            with monkeypatch.context() as patch:
                patch.setattr(backend_of(pool)._listener, "returned", fail)
                with pytest.raises(WorkerLost, match="ZeroDivisionError"):
                    await pool.run(tasks.double, 1)
            assert await pool.run(tasks.double, 21) == 42
    assert "dealings with the executor" in caplog.text


class Strange(ThreadPoolExecutor):
    """Answers with something else."""

    def submit(self, *_: Any, **__: Any) -> Any:
        return super().submit(int)


async def test_an_executor_that_answers_something_else_fails_the_task() -> None:
    with Strange(1) as executor:
        async with Pool(backend=executor, max_workers=1) as pool:
            with pytest.raises(TypeError):
                await asyncio.wait_for(pool.run(tasks.double, 1), PATIENCE_S)


async def test_an_executor_can_be_shut_down_without_a_thread_to_wait_in(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(backend="executor", max_workers=1)
    await pool.start()

    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
    await asyncio.wait_for(pool.aclose(), PATIENCE_S)


@pytest.mark.parametrize("slots", [1, 3])
async def test_no_more_tasks_are_given_to_it_than_it_has_slots(slots: int, gate: Gate) -> None:
    with ThreadPoolExecutor(8) as executor:
        async with Pool(backend=executor, max_workers=slots) as pool:
            handles = [pool.submit(tasks.hold, gate.address) for _ in range(slots + 2)]
            visitors = [await gate.arrival() for _ in range(slots)]
            await until(lambda: pool.statistics().running == slots)
            assert pool.statistics().queued == 2
            assert gate.nobody_came()
            for visitor in visitors:
                visitor.let_through()
            for _ in range(2):
                (await gate.arrival()).let_through()
            await asyncio.gather(*handles)


def test_it_says_what_it_can_not_do() -> None:
    can = ExecutorBackend.of_processes(4).capabilities
    assert (can.slots, can.max_workers) == (4, 1)
    missing = (can.kill, can.interrupt, can.retract, can.progress, can.crash_isolation)
    assert not any(missing)


class NeedsTwo(Exception):
    """Can't be rebuilt from its ``args``."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def raise_needs_two() -> NoReturn:
    raise NeedsTwo(7, "no")


@pytest.mark.parametrize("whose", ["the pool's", "the user's"])
async def test_objects_that_can_not_be_sent_between_processes_fail_their_task_alone(whose: str, gate: Gate) -> None:
    """Pickled in the executor's own threads, they end or break it: every other task is lost, or waits for ever."""
    users = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) if whose == "the user's" else None
    async with Pool(backend=users or "executor", max_workers=2) as pool, asyncio.timeout(PATIENCE_S):
        held = pool.submit(tasks.hold, gate.address, "held")
        visitor = await gate.arrival()
        for how, raised in HOW.items():
            for call in (
                (tasks.echo, LeavesWhenPickled(how)),
                (tasks.echo, LeavesElsewhere(how)),
                (make_leaving, how, 0),
                (make_leaving_when_pickled, how),
            ):
                with pytest.raises(TaskNotPicklable, match=type(raised).__name__):
                    await pool.run(*call)
        with pytest.raises(NeedsTwo) as caught:
            await pool.run(raise_needs_two)
        assert (str(caught.value), caught.value.code) == ("7: no", 7)
        assert await pool.run(tasks.double, 21) == 42
        visitor.let_through()
        assert await held == "held"
        assert pool.statistics().lost == 0
    if users is not None:
        users.shutdown()


class Leaving(ThreadPoolExecutor):
    """Raises what would end a program."""

    def submit(self, *_: Any, **__: Any) -> NoReturn:
        raise SystemExit(3)


async def test_an_executor_that_leaves_instead_of_taking_a_task_refuses_it() -> None:
    async with Pool(backend=Leaving(1), max_workers=1) as pool:
        with pytest.raises(BackendUnavailable, match="did not start"):
            await asyncio.wait_for(pool.run(tasks.double, 1), PATIENCE_S)
