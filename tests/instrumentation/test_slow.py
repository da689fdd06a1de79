"""Slow tasks are logged: what they did, where, and what to do about it."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool, TaskTimeout
from lifepool._engine.rate_limiter import RateLimiter
from lifepool.hooks import TaskRecord
from lifepool.instrumentation.slow import SlowTasks
from tests import tasks

if TYPE_CHECKING:
    from tests.engine.gates import Gate


async def test_a_task_that_ran_and_one_that_waited_are_distinguished(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async with Pool(max_workers=1) as pool:
        pool.add_hook(SlowTasks(0.4))
        running = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        waiting = pool.submit(tasks.double, 1)
        await asyncio.wait([running], timeout=0.5)
        visitor.let_through()
        await asyncio.gather(running, waiting)
        await pool.run(tasks.double, 1)
    ran, waited, *_ = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert ran.startswith("slow task 1 (hold): waited ")
    assert "completed; worker 1, attempts: 1. Split it into smaller tasks, or give it a timeout" in ran
    own_wait = re.search(r"waited (\d+\.\d\d) s", ran)
    assert own_wait
    if float(own_wait[1]) < 0.4:  # on a busy machine it may be long as well
        assert "max_workers" not in ran
    assert waited.startswith("slow task 2 (double): waited ")
    assert "workers were busy: raise max_workers" in waited


async def test_one_that_never_answered_ran_as_long_as_its_worker_had_it(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async with Pool(max_workers=1) as pool:
        pool.add_hook(SlowTasks(0.1))
        with pytest.raises(TaskTimeout):
            await pool.run(tasks.hold, gate.address, timeout=1.0)
    (message,) = [record.getMessage() for record in caplog.records if record.module == "slow"]
    assert re.search(r"ran \d\.\d\d s", message)
    assert "timed_out" in message


def settled(name: str, *, wait_s: float = 0.0, run_s: float | None = 0.0) -> TaskRecord:
    record = TaskRecord(name, 0.0)
    record.wait_s, record.run_s, record.outcome, record.finished = wait_s, run_s, "completed", wait_s
    return record


def test_a_flood_of_slow_tasks_is_one_line_for_each_function_and_its_count(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    slow = SlowTasks(1.0, wait_threshold=5.0, repeat_after=10.0, clock=lambda: now[0])
    for _ in range(50):
        slow.tasks_settled([settled("score", run_s=2.0)])
        slow.tasks_settled([settled("parse", wait_s=6.0, run_s=None)])
        slow.tasks_settled([settled("fast", wait_s=4.9, run_s=0.9)])
    assert len(caplog.records) == 2
    assert "no worker had it" in caplog.text
    now[0] = 10.0
    slow.tasks_settled([settled("score", run_s=2.0)])
    assert "(and 49 times more since this was last said)" in caplog.records[-1].getMessage()


def test_a_limiter_forgets_rather_than_grow() -> None:
    limiter = RateLimiter(10.0)
    for key in range(RateLimiter.MAX_KEYS + 1):
        assert limiter.may_say(key, 0.0)
    assert limiter.may_say(0, 0.0), "forgotten, and so said early"
    assert not limiter.may_say(0, 9.9)
    assert limiter.left_out(0) == 1
    assert limiter.left_out(0) == 0
