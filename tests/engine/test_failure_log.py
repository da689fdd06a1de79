"""What went wrong with tasks is in the log, without a hook, in few lines, and without what tasks were called with."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lifepool import (
    Pool,
    PoolClosed,
    PoolError,
    QueueFull,
    TaskError,
    TaskNotPicklable,
    TaskTimeout,
    WorkerLost,
    WorkerStartError,
)
from lifepool._core.events import TaskSubmitted
from lifepool._core.states import TaskState
from lifepool._core.task import Task
from lifepool._engine.failure_log import BURST, PERIOD_S, FailureLog, cause_of
from lifepool._engine.rate_limiter import RateLimiter
from lifepool.errors import InternalError, PayloadTooLarge
from tests import tasks
from tests.engine import batched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.gates import Gate

SECRET = "bob@example.com"


@pytest.fixture(autouse=True)
def _from_warnings_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lifepool")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "lifepool"]


# --- with real workers ----------------------------------------------------------------------------------------------


async def test_a_lost_task_is_one_warning_with_function_cause_worker_and_duration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Pool(max_workers=1, name="texts") as pool:
        with pytest.raises(WorkerLost):
            await pool.run(tasks.kill_self, 9)
    [line] = warnings(caplog)
    assert line.startswith("pool 'texts': task 1 (kill_self) lost on worker 1, ")
    assert "s after it was submitted: " in line
    assert "killed by signal 9 (SIGKILL)" in line
    assert "retries=1" in line, "the hint"


async def test_first_tasks_that_are_refused_while_they_wait_are_no_mishaps(caplog: pytest.LogCaptureFixture) -> None:
    """They are refusals that come a little later: counted, neither cancelled by us nor cut off by the end."""
    async with Pool(max_workers=1) as pool:
        burst = [pool.submit(time.sleep, 0.3, timeout=10.0) for _ in range(60)]
        done, _ = await asyncio.wait(burst, return_when=asyncio.FIRST_EXCEPTION)
        assert any(isinstance(handle.exception(), QueueFull) for handle in done)
        for handle in burst:
            handle.cancel()
        await asyncio.wait(burst)
    assert not [line for line in warnings(caplog) if "QueueFull" in line or "cancelled" in line]


@pytest.mark.parametrize("function", [tasks.exit_hard, tasks.make_lambda], ids=["lost", "not picklable"])
async def test_what_nobody_awaits_is_told_once(function: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(function, *([3] if function is tasks.exit_hard else []))
        await asyncio.wait([handle])
    del handle
    gc.collect()
    assert len(warnings(caplog)) == 1
    assert "never retrieved" not in caplog.text, "asyncio's own complaint"


async def test_an_exception_of_the_tasks_own_that_nobody_awaits_is_told_by_asyncio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Pool(max_workers=1) as pool:
        handle: Any = pool.submit(tasks.fail, "mine")
        await asyncio.wait([handle])
    del handle
    gc.collect()
    assert warnings(caplog) == []
    assert "TaskHandle exception was never retrieved" in caplog.text


async def test_an_exit_code_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(WorkerLost):
            await pool.run(tasks.exit_hard, 3)
    assert "(exit_hard) lost" in warnings(caplog)[0]
    assert "exited with code 3" in warnings(caplog)[0]


async def test_a_task_that_passes_its_timeout_is_one_warning(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=1) as pool:
        await pool.run(tasks.nothing)
        with pytest.raises(TaskTimeout):
            await pool.run(tasks.hold, gate.address, timeout=0.2)
    [line] = warnings(caplog)
    assert "(hold) timed out on worker 1" in line
    assert "timeout of 0.2 s" in line
    assert gate.address not in line


@pytest.mark.parametrize("size", [1, 3 << 20], ids=["pickled at once", "pickled in a thread"])
async def test_arguments_that_cannot_be_sent_are_one_warning_without_their_keys(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.echo, [bytes(size), {SECRET: threading.Lock()}])
    [line] = warnings(caplog)
    assert "echo" in line
    assert "can't be pickled: cannot pickle '_thread.lock' object" in line
    assert SECRET not in line


async def test_a_result_that_cannot_be_sent_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.make_lambda)
    [line] = warnings(caplog)
    assert "(make_lambda) failed on worker 1" in line
    assert "result can't be pickled" in line


async def test_what_is_too_large_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=1, max_payload=1000) as pool:
        with pytest.raises(PayloadTooLarge):
            await pool.run(tasks.echo, "x" * 2000)
        with pytest.raises(PayloadTooLarge):
            await pool.run(tasks.zeros, 2000)
    sent, returned = warnings(caplog)
    assert "a call of echo failed: the pickled arguments" in sent
    assert "2,0" in sent
    assert "(zeros) failed on worker 1" in returned


async def test_a_task_that_the_end_of_the_pool_cancels_is_one_warning(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(max_workers=1)
    await pool.start()
    running = pool.submit(tasks.hold, gate.address)
    await gate.arrival()
    waiting = pool.submit(tasks.hold, gate.address)
    await pool.aclose(0)
    for handle in (running, waiting):
        with pytest.raises(PoolClosed):
            await handle
    first, second, _ = warnings(caplog)  # the last line adds them up
    assert "(hold) cancelled on worker 1" in first
    assert "the pool was closed before the task was done" in first
    assert "(hold) cancelled, " in second
    assert "drain_timeout" in second


async def test_a_call_of_a_batch_that_passes_its_timeout_is_one_warning(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async with batched.pool:
        with pytest.raises(TaskTimeout):
            await batched.held_with_timeout(gate.address)
    [line] = warnings(caplog)
    assert "held_with_timeout" in line
    assert "timeout of 0.2 s" in line


def fill(pool: Pool) -> list[Any]:
    """Submit until one is refused."""
    submitted: list[Any] = []
    with contextlib.suppress(QueueFull):
        while len(submitted) < 100:
            submitted.append(pool.submit(tasks.nothing))
    assert len(submitted) < 100
    return submitted


async def test_what_is_no_failure_is_not_logged(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=1, max_queue=1) as pool:
        assert await pool.run(tasks.double, 2) == 4
        with pytest.raises(ValueError, match="mine"):
            await pool.run(tasks.fail, "mine")  # the user's own: raised where it is awaited
        held = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        waiting = fill(pool)
        waiting[-1].cancel()
        visitor.let_through()
        await asyncio.wait([held, *waiting])
    assert warnings(caplog) == []


async def test_a_flood_of_failures_is_few_lines_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=1) as pool:
        for _ in range(50):
            with pytest.raises(TaskNotPicklable):
                pool.submit(tasks.echo, threading.Lock())
        with pytest.raises(WorkerLost):
            await pool.run(tasks.exit_hard, 3)
    lines = warnings(caplog)
    assert len([line for line in lines if "can't be pickled" in line]) == BURST
    assert len([line for line in lines if "exit_hard" in line]) == 1, "another cause has its own lines"
    counted = [line for line in lines if "more tasks with TaskNotPicklable, the last one echo" in line]
    assert sum(int(line.split(": ")[1].split()[0]) for line in counted) == 50 - BURST


class Clock:
    """Stands in for an event loop: time passes when the test says so, and runs what is due."""

    def __init__(self) -> None:
        self._now = 0.0
        self._planned: list[tuple[float, Callable[[], object], SimpleNamespace]] = []

    def time(self) -> float:
        return self._now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> SimpleNamespace:
        entry: Any = (self._now + seconds, callback, handle := SimpleNamespace())
        handle.cancel = lambda: self._planned.remove(entry) if entry in self._planned else None
        self._planned.append(entry)
        return handle

    def advance(self, seconds: float) -> None:
        self._now += seconds
        for entry in [each for each in self._planned if each[0] <= self._now]:
            self._planned.remove(entry)
            entry[1]()


def test_a_flood_that_goes_on_is_reported_once_a_period(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    failures = FailureLog("texts", cast("asyncio.AbstractEventLoop", clock))
    error = PayloadTooLarge("arguments", 2, 1)
    for _ in range(BURST + 3):
        failures.call_failed("f", error)
    assert len(warnings(caplog)) == BURST
    clock.advance(PERIOD_S)
    assert warnings(caplog)[BURST:] == ["pool 'texts': 3 more tasks with PayloadTooLarge, the last one f"]
    failures.call_failed("f", error)
    assert len(warnings(caplog)) == BURST + 1
    clock.advance(PERIOD_S)
    assert warnings(caplog)[BURST + 1].startswith("pool 'texts': 1 more")
    clock.advance(PERIOD_S)
    assert failures._timer is None
    failures.call_failed("f", error)
    assert warnings(caplog)[-1].startswith("pool 'texts': a call of f failed"), "quiet again: it is logged in full"
    failures.flush()


# --- every error ----------------------------------------------------------------------------------------------------

CAUSES: list[tuple[PoolError, str]] = [
    (TaskNotPicklable("arguments", "args[0].session._lock", "TypeError: cannot pickle '_thread.lock' object"),
     "args[0].session._lock can't be pickled: cannot pickle '_thread.lock' object"),
    (TaskNotPicklable("arguments", f"args[0]['{SECRET}'][3]", f"PicklingError: {SECRET}"),
     "args[0]... can't be pickled"),
    (TaskNotPicklable("arguments", f"args[0] key '{SECRET}'", f"PicklingError: {SECRET}"),
     "args[0]... can't be pickled"),
    (TaskNotPicklable("arguments", "the call", f"the worker could not rebuild it: ModuleNotFoundError: {SECRET}"),
     "the call can't be pickled: the worker could not rebuild it: ModuleNotFoundError"),
    (TaskNotPicklable("arguments", "the function", "PicklingError: not found"), "the function can't be pickled"),
    (TaskNotPicklable("arguments", f"the {SECRET}", "PicklingError"), "the... can't be pickled"),
    (TaskNotPicklable("result", f"<{SECRET}>", f"PicklingError: {SECRET}"), "result can't be pickled"),
    (WorkerStartError("Traceback ...\n  File ...\nImportError: no model\n"),
     "no worker can be started: ImportError: no model"),
    (WorkerStartError(""), "no worker can be started: "),
    (WorkerLost(signal=11), "the worker died while it ran this task: killed by signal 11 (SIGSEGV)"),
    (WorkerLost(signal=9999), "the worker died while it ran this task: killed by signal 9999 (unknown)"),
    (TaskError("it raised\nmany\nlines"), "it raised many lines"),
    (TaskError("x" * 1000), "x" * 300 + "..."),
]  # fmt: skip


@pytest.mark.parametrize(("error", "cause"), CAUSES)
def test_a_cause_is_one_short_line(error: PoolError, cause: str) -> None:
    assert cause_of(error) == cause


@pytest.mark.parametrize("error", [None, ValueError("mine"), InternalError("ours")])
async def test_what_others_tell_of_is_not_told_twice(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    books = Task(TaskSubmitted(1, "f", 0, None, 0, None, False), 0.0)
    FailureLog("texts", asyncio.get_running_loop()).settled("f", books, TaskState.FAILED, error, 1.0)
    assert warnings(caplog) == []


# --- the rate limiter -----------------------------------------------------------------------------------------------


def test_a_limiter_lets_a_burst_through_and_counts_the_rest_of_the_period() -> None:
    limiter = RateLimiter(1.0, burst=2)
    assert [limiter.may_say("a", 0.0), limiter.may_say("a", 0.5), limiter.may_say("a", 0.9)] == [True, True, False]
    assert limiter.may_say("b", 0.9), "each thing has a period of its own"
    assert limiter.may_say("a", 1.0), "a new period"
    assert limiter.left_out("a") == 1
    limiter.forbid("a", 1.1)
    assert not limiter.may_say("a", 2.0)
    assert limiter.may_say("a", 2.2)
    assert (limiter.left_out("a"), limiter.left_out("never said")) == (1, 0)
