"""One life after the other, told of once, whoever is cancelled: what the model test found or must not lose."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, PoolClosed, WorkerStartError
from lifepool._core.states import PoolState
from lifepool._engine import lifecycle
from lifepool._engine.drain_log import named, warn_of_lost_tasks
from lifepool.errors import InternalError
from lifepool.hooks import Hook
from tests import tasks
from tests.engine.gates import PATIENCE_S, until
from tests.engine.scripted import ScriptedBackend

if TYPE_CHECKING:
    from pathlib import Path

    from lifepool.hooks import WatchedPool
    from tests.engine.gates import Gate


class Ends(Hook):
    """Counts starts and ends."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pool_started(self, pool: WatchedPool) -> None:
        self.told.append("started")

    def pool_closed(self, pool: WatchedPool) -> None:
        self.told.append("closed")


def scripted(**settings: Any) -> tuple[Pool, ScriptedBackend, Ends]:
    backend, ends = ScriptedBackend(), Ends()
    pool = Pool(backend=backend, max_workers=1, **settings)
    pool.add_hook(ends)
    return pool, backend, ends


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE_S)


@pytest.mark.all_loops
async def test_a_drain_that_is_cancelled_ends_at_once_tells_hooks_and_releases_everything() -> None:
    pool, backend, ends = scripted()
    await pool.start()
    handle = pool.submit(tasks.double, 1)
    draining = asyncio.ensure_future(pool.drain(1000))
    await until(lambda: pool.state is PoolState.DRAINING)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(draining)
    with pytest.raises(PoolClosed, match="closed before the task was done"):
        await handle
    assert ends.told == ["started", "closed"]
    assert (backend.is_open, backend.closes, pool.state.value) == (False, 1, "closed")
    await pool.aclose()
    assert ends.told == ["started", "closed"]


async def test_resources_are_closed_also_when_the_drain_was_cancelled() -> None:
    pool, _, _ = scripted()
    closed: list[bool] = []
    pool._runtime.declared.close_resources = lambda: closed.append(True)  # type: ignore[method-assign]
    await pool.start()
    pool.submit(tasks.double, 1)
    draining = asyncio.ensure_future(pool.drain(1000))
    await until(lambda: pool.state is PoolState.DRAINING)
    draining.cancel()
    await asyncio.wait([draining])
    assert closed == [True]


async def test_two_who_close_at_once_and_two_who_drain_are_one_end() -> None:
    pool, backend, ends = scripted()
    await pool.start()
    backend.closing = "held"
    closers = [asyncio.ensure_future(each) for each in (pool.aclose(), pool.drain(), pool.aclose(0), pool.drain(5))]
    await until(lambda: backend.closes == 1)
    backend.let_go("close")
    await soon(asyncio.gather(*closers))
    assert (backend.closes, ends.told) == (1, ["started", "closed"])


async def test_however_often_it_is_cancelled_the_backend_is_closed_before_the_caller_goes_on() -> None:
    pool, backend, ends = scripted()
    await pool.start()
    backend.closing = "held"
    closing = asyncio.ensure_future(pool.aclose())
    await until(lambda: backend.closes == 1)
    for _ in range(3):
        closing.cancel()
        await asyncio.sleep(0)
    assert not closing.done()
    backend.let_go("close")
    with pytest.raises(asyncio.CancelledError):
        await soon(closing)
    assert (backend.is_open, ends.told) == (False, ["started", "closed"])


async def test_a_loop_that_cancels_all_its_tasks_does_not_keep_the_backend_from_closing() -> None:
    pool, backend, ends = scripted()
    await pool.start()
    backend.closing = "held"
    closing = asyncio.ensure_future(pool.aclose())
    await until(lambda: backend.closes == 1)
    mine = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not mine:
            task.cancel()  # also the one that is in the middle of closing the backend
    await until(lambda: backend.closes == 2)
    backend.closing = "at once"
    backend.let_go("close")
    await asyncio.wait([closing])
    assert (backend.is_open, ends.told, pool.state.value) == (False, ["started", "closed"], "closed")


async def test_two_who_start_while_the_backend_opens_get_one_engine() -> None:
    pool, backend, ends = scripted()
    backend.opening = "held"
    starting = [asyncio.ensure_future(pool.start()) for _ in range(2)]
    await until(lambda: backend.opens == 1)
    assert pool.state is PoolState.STARTING
    assert pool.statistics().state == "starting"
    backend.let_go("open")
    await soon(asyncio.gather(*starting))
    assert (backend.opens, ends.told) == (1, ["started"])
    await pool.aclose()
    assert backend.overlaps is False


async def test_one_of_two_starters_may_go_and_the_other_gets_its_pool() -> None:
    pool, backend, _ = scripted()
    backend.opening = "held"
    first, second = (asyncio.ensure_future(pool.start()) for _ in range(2))
    await until(lambda: backend.opens == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    backend.let_go("open")
    await soon(second)
    assert pool.state.value == "running"
    await pool.aclose()


async def test_the_last_of_the_starters_takes_the_start_along() -> None:
    pool, backend, ends = scripted()
    backend.opening = "held"
    starting = [asyncio.ensure_future(pool.start()) for _ in range(2)]
    await until(lambda: backend.opens == 1)
    for each in starting:
        each.cancel()
    await asyncio.wait(starting)
    assert all(each.cancelled() for each in starting)
    assert (pool.state.value, backend.is_open, ends.told) == ("closed", False, [])


async def test_closing_while_the_backend_opens_ends_the_start() -> None:
    pool, backend, ends = scripted()
    backend.opening = "held"
    starting = asyncio.ensure_future(pool.start())
    await until(lambda: backend.opens == 1)
    await soon(pool.aclose())
    with pytest.raises(PoolClosed, match="closed while it started"):
        await starting
    assert (pool.state.value, backend.is_open, ends.told) == ("closed", False, [])


async def test_a_start_while_the_pool_drains_waits_for_the_end_and_begins_anew() -> None:
    pool, backend, ends = scripted()
    await pool.start()
    handle = pool.submit(tasks.double, 1)
    draining = asyncio.ensure_future(pool.drain(1000))
    await until(lambda: pool.state is PoolState.DRAINING)
    starting = asyncio.ensure_future(pool.start())
    await asyncio.sleep(0)
    assert (backend.opens, starting.done()) == (1, False)
    backend.finish_a_task()
    await soon(asyncio.gather(draining, starting))
    assert str(await handle) == "done"
    assert (backend.opens, backend.overlaps, pool.state.value) == (2, False, "running")
    await pool.aclose()
    assert ends.told == ["started", "closed"] * 2


async def test_who_enters_while_the_last_one_leaves_gets_a_running_pool() -> None:
    pool, backend, _ = scripted()
    async with pool:
        pass
    await pool.__aenter__()
    backend.closing = "held"
    leaving = asyncio.ensure_future(pool.__aexit__(None, None, None))
    await until(lambda: backend.closes == 1)
    entering = asyncio.ensure_future(pool.__aenter__())
    await asyncio.sleep(0)
    backend.closing = "at once"
    backend.let_go("close")
    await soon(asyncio.gather(leaving, entering))
    assert pool.state.value == "running"
    await pool.__aexit__(None, None, None)
    assert pool.state.value == "closed"


async def test_a_start_that_fails_closes_the_backend_and_can_be_tried_again() -> None:
    pool, backend, ends = scripted()
    backend.opening = "fails"
    with pytest.raises(OSError, match="does not open"):
        await pool.start()
    assert (pool.state.value, backend.is_open, ends.told) == ("closed", False, [])
    backend.opening, backend.starting = "at once", "fails"
    with pytest.raises(WorkerStartError, match="no such library"):
        await pool.start()
    assert (pool.state.value, backend.is_open, ends.told) == ("closed", False, [])
    backend.starting = "at once"
    await pool.start()
    await pool.aclose()
    assert ends.told == ["started", "closed"]


async def test_a_backend_that_can_not_be_closed_is_logged_and_the_pool_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool, backend, ends = scripted()
    await pool.start()
    backend.closing = "fails"
    await pool.aclose()
    assert "its backend could not be closed" in caplog.text
    assert (pool.state.value, ends.told) == ("closed", ["started", "closed"])


async def test_a_backend_that_never_closes_holds_nobody_up_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lifecycle, "RELEASE_S", 0.05)
    pool, backend, ends = scripted()
    await pool.start()
    backend.closing = "held"
    await soon(pool.aclose())
    assert "did not close within" in caplog.text
    assert ends.told == ["started", "closed"]


async def test_a_worker_that_nothing_ends_holds_nobody_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "REAP_S", 0.05)
    monkeypatch.setattr(lifecycle, "REPORT_S", 0.01)
    pool, backend, ends = scripted()
    monkeypatch.setattr(backend, "kill_worker", lambda worker: None)
    await pool.start()
    handle = pool.submit(len, "")
    await soon(pool.aclose(0.01))
    assert isinstance(handle.exception(), PoolClosed)
    assert (pool.state.value, backend.is_open, ends.told) == ("closed", False, ["started", "closed"])


async def test_a_broken_pool_can_be_closed_and_started_again() -> None:
    pool, backend, ends = scripted()
    await pool.start()
    assert pool._engine is not None
    pool._engine._break(InternalError("the books are wrong"))
    await soon(pool.aclose())
    assert (pool.state.value, backend.is_open, ends.told) == ("closed", False, ["started", "closed"])
    await pool.start()
    assert pool.readiness().ready
    await pool.aclose()


def test_a_pool_whose_loop_was_closed_can_be_closed_and_started_again() -> None:
    pool, backend, ends = scripted()

    async def start() -> None:
        await pool.start()
        pool.submit(tasks.double, 1)

    asyncio.run(start())
    assert pool.state.value == "running"  # nobody has told it
    asyncio.run(pool.aclose())
    assert (pool.state.value, backend.is_open, ends.told) == ("closed", False, ["started", "closed"])

    async def use() -> None:
        async with pool:
            assert pool.state.value == "running"

    asyncio.run(start())
    asyncio.run(use())
    assert ends.told == ["started", "closed"] * 3


def test_tasks_of_a_pool_whose_loop_was_closed_have_an_outcome_and_are_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool, _, _ = scripted(name="texts")
    handles: list[Any] = []

    async def leave_it() -> None:
        await pool.start()
        handles.append(pool.submit(tasks.double, 1))

    async def refused() -> None:
        with pytest.raises(PoolClosed, match="event loop was closed"):
            await pool.run(tasks.double, 1)

    asyncio.run(leave_it())
    asyncio.run(refused())
    asyncio.run(pool.aclose())
    assert handles[0].done()
    assert handles[0].state.value == "cancelled"
    assert isinstance(handles[0].exception(), PoolClosed)
    asyncio.run(refused())
    assert not pool.readiness().ready
    texts = [record.getMessage() for record in caplog.records]
    assert [text for text in texts if "was not closed" in text] == [
        "pool 'texts' was not closed, and its event loop ended before these tasks were done: double. "
        "Use 'async with pool'"
    ]
    assert "broken" not in caplog.text
    assert "never retrieved" not in caplog.text


def test_a_pool_whose_loop_was_closed_refuses_to_recycle(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(max_workers=1)
    asyncio.run(pool.start())
    asyncio.run(pool.aclose())
    with pytest.raises(PoolClosed, match="event loop was closed"):
        asyncio.run(pool.recycle())
    assert caplog.text == ""


async def test_nothing_is_told_lost_while_the_loop_runs_or_in_a_forked_copy(caplog: pytest.LogCaptureFixture) -> None:
    pool, _, _ = scripted()
    await pool.start()
    handle = pool.submit(tasks.double, 1)
    warn_of_lost_tasks("texts", {1: handle}, os.getpid())  # somebody let go of the pool, and kept the handle
    other_loop = asyncio.new_event_loop()
    other_loop.close()
    lost: Any = SimpleNamespace(_name="double", get_loop=lambda: other_loop)
    warn_of_lost_tasks("texts", {1: lost}, os.getpid() + 1)
    assert caplog.text == ""
    warn_of_lost_tasks("texts", {1: lost}, os.getpid())
    assert "pool 'texts' was not closed" in caplog.text
    await pool.aclose(0)
    with pytest.raises(PoolClosed):
        await handle


@pytest.mark.parametrize("how", ["collected", "at exit"])
def test_a_program_that_does_not_close_its_pool_is_told_what_is_lost(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio, sys, time\nfrom lifepool import Pool\n"
        "async def main():\n"
        "    pool = Pool(max_workers=1)\n"
        "    await pool.start()\n"
        "    pool.submit(time.sleep, 60)\n"
        "    return pool\n"
        "if __name__ == '__main__':\n"
        + ("    asyncio.run(main())\n" if how == "collected" else "    pool = asyncio.run(main())\n")
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0
    assert done.stderr == (
        "pool 'pool' was not closed, and its event loop ended before these tasks were done: sleep. "
        "Use 'async with pool'\n"
    )


async def test_a_pool_lives_on_one_loop_at_a_time_and_refuses_the_others() -> None:
    pool, backend, _ = scripted()
    await pool.start()

    def elsewhere() -> None:
        for method in (pool.start, pool.aclose, pool.drain, pool.__aenter__):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                asyncio.run(method())

    await asyncio.to_thread(elsewhere)
    assert (pool.state.value, backend.opens) == ("running", 1)
    await pool.aclose()
    await asyncio.to_thread(lambda: asyncio.run(pool.aclose()))


# --- the log --------------------------------------------------------------------------------------------------------


async def test_the_log_says_what_a_drain_waits_for_and_what_was_cancelled(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lifecycle, "REPORT_S", 0.01)
    with caplog.at_level(logging.INFO, "lifepool"):
        async with Pool(max_workers=1, name="texts") as pool:
            handles = [
                pool.submit(tasks.hold, gate.address),
                pool.submit(tasks.double, 1),
                pool.submit(tasks.double, 2),
            ]
            await gate.arrival()
            draining = asyncio.ensure_future(pool.drain(1000))
            waits = "pool 'texts' drains: it waits for 1 running and 2 queued tasks, 1e+03 s at most; hold has run for"
            await until(lambda: caplog.text.count(waits) >= 2)
            await pool.aclose(0)
            await draining
        with contextlib.suppress(PoolClosed):
            await asyncio.gather(*handles)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    (warning,) = [line for line in warnings if "ended after" in line]
    news, *reminders = [record for record in caplog.records if waits in record.getMessage()]
    assert news.levelno == logging.INFO
    assert {record.levelno for record in reminders} == {logging.WARNING}, "seen also without a log set up"
    assert warning.endswith("before these tasks were done, and cancelled them: double (2 times), hold")


async def test_the_log_is_quiet_about_a_drain_that_has_nothing_to_wait_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lifepool"):
        async with Pool(backend="inline") as pool:
            await pool.run(tasks.double, 1)
    assert "drains" not in caplog.text
    assert "cancelled" not in caplog.text


def test_many_names_are_cut() -> None:
    from collections import Counter

    assert named(Counter({f"f{n}": 10 - n for n in range(7)})) == (
        "f0 (10 times), f1 (9 times), f2 (8 times), f3 (7 times), f4 (6 times), and 9 more"
    )


def test_a_ctrl_c_that_comes_in_the_middle_of_the_end_hurries_it_and_skips_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python raises it wherever the main thread is, so also in the task that ends the pool."""
    pool, backend, ends = scripted()
    handles: list[Any] = []

    def interrupted(log: object) -> None:
        raise KeyboardInterrupt

    async def use() -> None:
        async with pool:
            handles.append(pool.submit(tasks.double, 1))
            monkeypatch.setattr("lifepool._engine.drain_log.DrainLog.waits", interrupted)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(use())
    assert (backend.is_open, pool.state.value, ends.told) == (False, "closed", ["started", "closed"])
    assert isinstance(handles[0].exception(), PoolClosed)
