"""A machine that has no more of something for a while: failed starts, slower paths, and never somebody else's loss."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from lifepool import Pool, WorkerStartError
from lifepool.backends.local import channel as channel_module
from lifepool.backends.local import outbox as outbox_module
from lifepool.backends.local.copy_threads import CopyThreads
from lifepool.backends.start_failures import why_not_started
from lifepool.hooks import Hook
from tests import tasks
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.engine.scripts import SCRIPTS, run_script
from tests.faults.inside import backend_of, template_pid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


BIG = 3 * 1024 * 1024  # bytes, enough for a thread to copy


def failed_starts(pool: Pool) -> int:
    return pool.statistics().restarts.get("failed to start", 0)


# -- descriptors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [0, 6], ids=lambda count: f"{count}_left")
def test_without_descriptors_a_start_fails_and_the_pool_grows_when_there_are_some_again(leave: int) -> None:
    done = run_script(str(SCRIPTS / "scarce.py"), "grow", str(leave))
    assert (done.code, done.text, done.left_nothing) == (0, "ok\n", True)


@pytest.mark.parametrize("leave", [0, 5], ids=lambda count: f"{count}_left")
def test_a_pool_that_can_not_start_for_want_of_descriptors_says_so(leave: int) -> None:
    done = run_script(str(SCRIPTS / "scarce.py"), "start", str(leave))
    assert (done.code, done.text, done.left_nothing) == (0, "ok\n", True)


@pytest.mark.parametrize("leave", [0, 1], ids=lambda count: f"{count}_left")
def test_so_does_one_in_a_program_that_has_not_loaded_it_all(leave: int) -> None:
    done = run_script(str(SCRIPTS / "scarce.py"), "first", str(leave))
    assert (done.code, done.text, done.left_nothing) == (0, "ok\n", True)


def test_big_payloads_need_no_descriptor() -> None:
    done = run_script(str(SCRIPTS / "scarce.py"), "big")
    assert (done.code, done.text, done.left_nothing) == (0, "ok\n", True)


@pytest.mark.parametrize("error", [OSError(errno.ENFILE, "no"), MemoryError(), ValueError("no"), OverflowError()])
async def test_without_shared_memory_all_goes_through_the_sockets(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(outbox_module, "Arguments", refuse)
    monkeypatch.setattr(channel_module, "Cells", refuse)
    monkeypatch.setattr("lifepool.backends.local.connection.ResultReader", refuse)
    async with Pool(max_workers=1) as pool:
        assert await pool.run(tasks.echo, bytes(BIG)) == bytes(BIG)
        assert await pool.run(tasks.double, 21) == 42


class Listening(Hook):
    """Wants what workers log."""

    log_level = None

    def worker_logged(self, log: dict[str, Any]) -> None:
        """Nothing to do with it."""


async def test_without_a_socket_for_logs_the_pool_runs_and_says_that_they_are_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("lifepool.backends.local.backend.LogReceiver", refuse)
    pool = Pool(max_workers=1)
    pool.add_hook(Listening())
    async with pool:
        assert await pool.run(tasks.double, 21) == 42
    assert "logs of workers that start now are not forwarded" in caplog.text


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.EMFILE, ""), "limit of open files"),
        (OSError(errno.ENFILE, ""), "limit of open files"),
        (BlockingIOError(errno.EAGAIN, ""), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.ENOMEM, ""), "memory"),
        (MemoryError(), "memory"),
        (EOFError(), "template"),
        (ZeroDivisionError("x"), "see the cause"),
    ],
)
def test_a_failed_start_says_what_to_do(error: Exception, advice: str) -> None:
    cause, hint = why_not_started(error)
    assert (str(error) or repr(error)) in cause
    assert advice in hint


async def test_a_template_that_is_killed_while_it_starts_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "killing_itself.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorkerStartError, match="killed by signal 9 while it imported 'killing_itself'") as caught:
        await asyncio.wait_for(Pool(max_workers=1, preload=["killing_itself"]).start(), PATIENCE_S)
    assert "the kernel for its memory" in caught.value.hint


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "reset by peer"), ValueError("no")])
def test_of_an_executor_nothing_is_said_of_a_template(error: Exception) -> None:
    assert why_not_started(error, "the executor can't run tasks", "look at the executor")[1] == "look at the executor"


async def test_a_module_that_closes_all_descriptors_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As programs do that make a daemon of themselves."""
    (tmp_path / "closing_all.py").write_text("import os, time; os.closerange(3, 256); time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorkerStartError, match=r"has closed its connection .* imported 'closing_all'") as caught:
        await asyncio.wait_for(Pool(max_workers=1, preload=["closing_all"]).start(), PATIENCE_S)
    assert "closes files that are not its own" in caught.value.hint


# -- threads ------------------------------------------------------------------------------------------------------


def refuse_threads(patch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    patch.setattr(threading.Thread, "start", start)


def copying_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "-copy" in thread.name]


async def test_without_threads_big_payloads_are_copied_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pool(max_workers=1) as pool, asyncio.timeout(PATIENCE_S):
        with monkeypatch.context() as patch:
            refuse_threads(patch)
            assert len(await pool.run(tasks.zeros, BIG)) == BIG  # a big result
            assert await pool.run(tasks.echo, bytes(BIG)) == bytes(BIG)  # big arguments as well
            assert not copying_threads()
        assert await pool.run(tasks.echo, bytes(BIG)) == bytes(BIG)
        assert copying_threads()


async def test_a_piece_of_work_is_done_once_though_no_thread_was_there_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = CopyThreads(asyncio.get_running_loop(), "test")
    done: list[str] = []
    second = asyncio.Event()
    with monkeypatch.context() as patch:
        refuse_threads(patch)
        threads.run(lambda: done.append("first work"), lambda _: done.append("first then"))
    assert done == ["first work", "first then"]
    threads.run(lambda: done.append("second work"), lambda _: second.set())
    async with asyncio.timeout(PATIENCE_S):
        await second.wait()
    threads.close()
    assert done == ["first work", "first then", "second work"]


async def test_work_that_raises_in_a_thread_is_told_of() -> None:
    threads = CopyThreads(asyncio.get_running_loop(), "test")
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def fail() -> NoReturn:
        raise SystemExit(1)

    threads.run(fail, told.set_result, otherwise="it failed")
    async with asyncio.timeout(PATIENCE_S):
        assert await told == "it failed"
    threads.close()


async def test_a_pool_that_can_not_start_for_want_of_a_thread_says_so_and_starts_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(max_workers=1)
    with monkeypatch.context() as patch:
        refuse_threads(patch)
        with pytest.raises(WorkerStartError, match="can't start new thread") as caught:
            await asyncio.wait_for(pool.start(), PATIENCE_S)
    assert "ulimit -u" in caught.value.hint
    async with pool:
        assert await pool.run(tasks.double, 21) == 42


async def test_a_start_without_a_thread_fails_alone(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pool(max_workers=2, min_workers=1) as pool:
        held = pool.submit(tasks.hold, gate.address, "held")
        visitor = await gate.arrival()
        with monkeypatch.context() as patch:
            # The starter's own thread is idle and would be used again: only a refusal of the order itself is left.
            real = ThreadPoolExecutor.submit

            def submit(self: ThreadPoolExecutor, *args: Any) -> Any:
                real(self, *args)  # the order stays in the queue, as it does if its thread can't be started
                raise RuntimeError("can't start new thread")

            patch.setattr(ThreadPoolExecutor, "submit", submit)
            other = pool.submit(tasks.double, 21)
            await until(lambda: failed_starts(pool) >= 2)
        assert await other == 42
        visitor.let_through()
        assert await held == "held"
        assert pool.statistics().lost == 0


async def test_a_pool_closes_without_a_thread_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(max_workers=1, min_workers=0)
    await pool.start()
    refuse_threads(monkeypatch)
    await asyncio.wait_for(pool.aclose(), PATIENCE_S)


# -- processes ----------------------------------------------------------------------------------------------------

REFUSING_FORK = """
import errno, os
fork = os.fork
def refuse():
    if os.path.exists({flag!r}):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    return fork()
os.fork = refuse
"""


@pytest.fixture
def flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file exists, the template of a pool with ``preload=["refusing_fork"]`` can't fork."""
    flag = tmp_path / "no forks"
    (tmp_path / "refusing_fork.py").write_text(REFUSING_FORK.format(flag=str(flag)))
    monkeypatch.syspath_prepend(tmp_path)
    return flag


@asynccontextmanager
async def busy_pool(gate: Gate, **options: Any) -> AsyncIterator[Pool]:
    """A pool whose only worker has a task, may have a second worker, and must not lose what it has."""
    async with Pool(max_workers=2, min_workers=1, **options) as pool:
        held = pool.submit(tasks.hold, gate.address, "held")
        visitor = await gate.arrival()
        template = template_pid(pool)
        yield pool
        assert template_pid(pool) == template
        visitor.let_through()
        assert await held == "held"
        assert visitor.pid in {worker.pid for worker in pool.workers()}
        assert set(pool.statistics().restarts) <= {"failed to start"}
        assert pool.statistics().lost == 0


async def test_a_fork_that_fails_is_one_failed_start_and_running_tasks_go_on(gate: Gate, flag: Path) -> None:
    async with busy_pool(gate, preload=["refusing_fork"]) as pool:
        flag.touch()
        other = pool.submit(tasks.double, 21)
        await until(lambda: failed_starts(pool) >= 2)
        flag.unlink()
        assert await asyncio.wait_for(other, PATIENCE_S) == 42


async def test_a_pool_whose_template_can_not_fork_says_why(flag: Path) -> None:
    flag.touch()
    pool = Pool(max_workers=1, preload=["refusing_fork"])
    with pytest.raises(WorkerStartError, match="Resource temporarily unavailable") as caught:
        await asyncio.wait_for(pool.start(), PATIENCE_S)
    assert "ulimit -u" in caught.value.hint


async def test_a_pool_that_lost_its_last_worker_says_why_it_gets_no_other_until_it_does(flag: Path) -> None:
    async with Pool(max_workers=1, preload=["refusing_fork"]) as pool:
        template = template_pid(pool)
        flag.touch()
        lost = pool.submit(tasks.kill_self, 9)
        await until(lambda: pool.readiness().reasons == ("crash-looping",))
        assert lost.done()
        with pytest.raises(WorkerStartError, match="Resource temporarily unavailable"):
            await pool.run(tasks.double, 21)
        flag.unlink()
        await until(lambda: pool.readiness().ready)
        assert await pool.run(tasks.double, 21) == 42
        assert template_pid(pool) == template


async def test_a_template_that_somebody_else_reaped_is_replaced() -> None:
    """A program that waits for any child, as PID 1 does, or ignores SIGCHLD."""
    async with Pool(max_workers=1) as pool:
        template, worker = template_pid(pool), pool.workers()[0].pid
        os.kill(template, signal.SIGKILL)
        os.waitpid(template, 0)
        await until(lambda: not pool.workers() or pool.workers()[0].pid != worker)
        assert await asyncio.wait_for(pool.run(tasks.double, 21), PATIENCE_S) == 42
        assert template_pid(pool) != template


@pytest.mark.skipif(sys.platform != "linux", reason="no other process can be limited")
@pytest.mark.parametrize("left", [0, 3])
async def test_a_template_without_descriptors_fails_that_start_alone(gate: Gate, left: int) -> None:
    async with busy_pool(gate) as pool:
        template = template_pid(pool)
        limits = resource.prlimit(template, resource.RLIMIT_NOFILE)
        taken = set(map(int, os.listdir(f"/proc/{template}/fd")))
        free = [fd for fd in range(len(taken) + left + 1) if fd not in taken]
        resource.prlimit(template, resource.RLIMIT_NOFILE, (free[left], limits[1]))
        other = pool.submit(tasks.double, 21)
        await until(lambda: failed_starts(pool) >= 3)
        resource.prlimit(template, resource.RLIMIT_NOFILE, limits)
        assert await asyncio.wait_for(other, PATIENCE_S) == 42


async def test_a_start_that_is_broken_off_half_way_leaves_the_template_alone(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server connects, and then can't send what it has to."""
    async with busy_pool(gate) as pool:

        def refuse(*_: object) -> NoReturn:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr("multiprocessing.reduction.sendfds", refuse)
            other = pool.submit(tasks.double, 21)
            await until(lambda: failed_starts(pool) >= 2)
        assert await asyncio.wait_for(other, PATIENCE_S) == 42


async def test_a_child_that_can_not_be_told_what_to_do_is_a_failed_start(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with busy_pool(gate) as pool:
        real = os.dup

        def refuse(fd: int) -> int:
            if threading.current_thread().name.startswith("lifepool"):
                raise OSError(errno.EMFILE, "Too many open files")
            return real(fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "dup", refuse)
            other = pool.submit(tasks.double, 21)
            await until(lambda: failed_starts(pool) >= 2)
        assert await asyncio.wait_for(other, PATIENCE_S) == 42
        assert backend_of(pool)._connections
