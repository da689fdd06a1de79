"""`report_progress`: from any thread, the last one always, never for another task, never through another frame."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import PayloadTooLarge, Pool, TaskNotPicklable, TaskTimeout
from lifepool._core import policy
from lifepool.backends.local.worker import reporting
from tests import tasks
from tests.engine.gates import PATIENCE_S, until
from tests.faults.inside import let_time_pass, only_channel
from tests.worker import progress_tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.gates import Gate

BACKENDS = pytest.mark.parametrize("backend", ["local", "inline"])


@BACKENDS
async def test_the_last_report_arrives_however_close_to_the_one_before(backend: str) -> None:
    async with Pool(max_workers=1, backend=backend) as pool:
        for _ in range(3):
            handle = pool.submit(progress_tasks.report_each, [number / 100 for number in range(101)])
            await handle
            assert handle.progress == 1.0


@BACKENDS
async def test_so_it_does_if_the_task_fails(backend: str) -> None:
    async with Pool(max_workers=1, backend=backend) as pool:
        handle: Any = pool.submit(progress_tasks.report_each_and_fail, [0.1, 0.5, 0.9])
        with pytest.raises(ValueError, match="after the last report"):
            await handle
        assert handle.progress == 0.9


async def test_it_is_seen_while_the_task_goes_on(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(progress_tasks.report_each_and_hold, ["loading", "reading", "computing"], gate.address)
        visitor = await gate.arrival()
        await until(lambda: handle.progress == "computing")
        visitor.let_through()
        await handle


async def test_it_is_seen_of_a_task_that_passes_its_timeout(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(progress_tasks.report_each_and_hold, [0.1, 0.5, 0.9], gate.address, timeout=30)
        await gate.arrival()
        await until(lambda: handle.progress == 0.9)
        let_time_pass(pool, 30)
        with pytest.raises(TaskTimeout):
            await handle
        assert handle.progress == 0.9


async def test_of_a_chunk_too() -> None:
    async with Pool(max_workers=1) as pool:
        from lifepool._transfer.grouped import run_chunk

        handle = pool.submit(run_chunk, progress_tasks.report_number, (1, 2, 3, 4), False)
        await handle
        assert handle.progress == 1.0


@BACKENDS
async def test_a_thread_that_the_task_has_started_reports_for_it(backend: str) -> None:
    async with Pool(max_workers=1, backend=backend) as pool:
        handle = pool.submit(progress_tasks.report_in_thread, [0.1, 0.5, 1.0])
        await handle
        assert handle.progress == 1.0


async def test_a_thread_that_was_left_over_reports_for_no_other_task(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        await pool.run(progress_tasks.leave_a_reporter, gate.address)
        left_over = await gate.arrival()
        handle = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        left_over.let_through()
        (await gate.arrival()).let_through()  # it has reported
        visitor.let_through()
        await handle
        assert handle.progress is None


async def test_inline_neither(gate: Gate) -> None:
    async with Pool(backend="inline") as pool:
        go_on, done = threading.Event(), threading.Event()

        def leave() -> None:
            def report() -> None:
                go_on.wait(PATIENCE_S)
                progress_tasks.report_number(1)
                done.set()

            threading.Thread(target=report).start()

        await pool.run(leave)

        def wait_for_it() -> bool:
            go_on.set()
            return done.wait(PATIENCE_S)

        handle = pool.submit(wait_for_it)
        assert await handle
        assert handle.progress is None


async def test_reports_of_many_threads_tear_neither_each_other_nor_the_answer() -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        for size in (10, 300_000):
            handle = pool.submit(progress_tasks.report_in_threads_and_return, 4, size)
            assert await handle == bytes(size)
            assert isinstance(handle.progress, bytes)
            assert handle.progress == handle.progress[:1] * size
        assert await pool.run(os.getpid) == pid


def test_a_late_report_is_not_sent_after_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reporter = reporting.Reporter(ours, 1000, lambda: 7, lambda: None)
        encoded = reporter._encoded

        def meanwhile(value: object) -> bytes:
            monkeypatch.setattr(reporter, "_encoded", encoded)
            reporter.report("later")
            return encoded(value)

        reporter.late = (7, "late")
        monkeypatch.setattr(reporter, "_encoded", meanwhile)
        reporter._on_time()
        sent = theirs.recv(1000)
    assert b"later" in sent
    assert sent.count(b"late") == 1


async def test_an_interrupt_hits_the_task_and_not_the_thread_that_reports(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)  # however slow the machine is, it is not killed
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        trace = tmp_path / "trace"
        handle = pool.submit(progress_tasks.report_from_thread_until_broken_off, gate.address, str(trace))
        await gate.arrival()
        only_channel(pool).interrupt(handle.id)  # the message, but not yet the signal: the thread may find it
        seen = handle.progress
        for _ in range(3):
            await until(lambda: handle.progress != seen)  # noqa: B023
            seen = handle.progress
        assert not trace.exists()
        handle.cancel()
        assert await pool.run(os.getpid) == pid
        assert trace.read_text() == "the task: TaskInterrupted"


@pytest.mark.parametrize("before", [[], [0.1]], ids=["at once", "late"])
async def test_a_report_that_can_not_be_sent_is_the_task_s_error(before: list[float]) -> None:
    async with Pool(max_workers=1, max_payload=64 * 1024) as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(TaskNotPicklable, match=r"^progress can't be pickled") as caught:
            await pool.run(progress_tasks.report_unpicklable_after, before)
        assert caught.value.side == "progress"
        with pytest.raises(PayloadTooLarge, match="progress"):
            await pool.run(progress_tasks.report_zeros_after, before, 100_000)
        assert await pool.run(os.getpid) == pid


async def test_an_error_of_the_task_s_own_comes_first() -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(ValueError, match="after the last report") as caught:
            await pool.run(progress_tasks.report_unpicklable_and_fail)
        assert "its last progress could not be sent" in str(caught.value.__notes__)
