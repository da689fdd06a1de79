"""What tasks have started ends with them, or with their worker, and nothing is left to be reaped."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest

from lifepool import Pool, TaskTimeout, WorkerLost
from lifepool._core import policy
from lifepool.backends.local.worker.descendants import status
from tests.engine import child_tasks
from tests.engine.gates import PATIENCE_S, until
from tests.engine.scripts import talking_to
from tests.faults.inside import template_pid
from tests.gone import still_there

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.gates import Gate

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

SOFT = [
    child_tasks.wait_for_forgotten_child,
    child_tasks.wait_for_shell,
    child_tasks.wait_for_orphan,
    child_tasks.wait_for_session,
    child_tasks.wait_for_process,
    child_tasks.wait_for_spawned_process,
]
HARD = [
    child_tasks.wait_for_child,  # the end of a `with Popen(...)` waits for the child
    child_tasks.hang_in_system,
    child_tasks.hang_in_c_with_shell,
    child_tasks.hang_in_c_with_session,
]


def family(pool: Pool) -> list[psutil.Process]:
    """All below the template but its workers: what tasks have started, living or only waiting to be reaped."""
    template = psutil.Process(template_pid(pool))
    spared = {worker.pid for worker in pool.workers()}
    found = []
    for process in template.children(recursive=True):
        try:
            command = str(process.cmdline())
            # The helpers of multiprocessing stay as long as the worker. A fork has the command line of its parent.
            is_fork_server = (
                "forkserver" in command and process.ppid() in spared and process.cmdline() != template.cmdline()
            )
            if process.pid not in spared and not is_fork_server and "resource_tracker" not in command:
                found.append(process)
        except psutil.ZombieProcess:
            found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


async def all_gone(pool: Pool) -> None:
    await until(lambda: not family(pool))


@linux_only
@pytest.mark.parametrize("function", [*SOFT, *HARD])
async def test_a_task_that_is_broken_off_takes_along_what_it_has_started(
    function: Callable[[str], None], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    if function in SOFT:  # however slow the machine is, the worker has the time to give in
        monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1) as pool:
        for _ in range(2):
            handle = pool.submit(function, gate.address)
            visitor = await gate.arrival()
            if function is child_tasks.hang_in_system:
                await until(lambda: bool(family(pool)))
            children = family(pool)
            assert children
            handle.cancel()
            assert (await pool.run(os.getpid) == visitor.pid) is (function in SOFT)
            assert still_there(children, PATIENCE_S) == []
            await all_gone(pool)
        assert await pool.run(child_tasks.sessions_and_spawn) == 4


async def test_so_does_one_that_passes_its_timeout(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        for function in (child_tasks.wait_for_forgotten_child, child_tasks.hang_in_c_with_shell) * 2:
            with pytest.raises(TaskTimeout):
                await pool.run(function, gate.address, timeout=0.2)
        await all_gone(pool)


@linux_only
async def test_what_a_resource_has_started_stays_also_if_the_task_is_broken_off_that_loaded_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(child_tasks.wait_for_browser, gate.address)
        worker = (await gate.arrival()).pid
        assert len(family(pool)) == 4
        handle.cancel()
        assert await pool.run(os.getpid) == worker
        browser = await pool.run(child_tasks.browser_pid)
        await until(lambda: {process.pid for process in family(pool)} == {browser})
        assert await pool.run(child_tasks.browser_pid) == browser
        process = psutil.Process(browser)
    assert still_there([process], PATIENCE_S) == []


@linux_only
@pytest.mark.parametrize("method", ["fork", "spawn"])
async def test_so_do_the_processes_of_a_standard_executor_that_is_kept(
    method: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1, initializer=child_tasks.keep_an_executor, initargs=(method,)) as pool:
        handle = pool.submit(child_tasks.wait_for_kept_executor, gate.address)
        worker = (await gate.arrival()).pid
        handle.cancel()
        assert await pool.run(os.getpid) == worker
        process = await pool.run(child_tasks.pid_in_kept_executor)
        await until(lambda: {process.pid for process in family(pool)} == {process})


def ticks() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


@linux_only
async def test_what_the_initializer_has_started_stays_whenever_the_task_began() -> None:
    async with Pool(max_workers=1, initializer=child_tasks.start_helper) as pool:
        helper = psutil.Process(await pool.run(child_tasks.helper_pid))
        own = await pool.run(child_tasks.end_what_began_long_ago)
        assert not psutil.pid_exists(own)
        assert helper.is_running()


@linux_only
async def test_what_was_there_before_the_task_stays(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1, initializer=child_tasks.start_helper) as pool:
        helper = psutil.Process(await pool.run(child_tasks.helper_pid))
        left = psutil.Process(await pool.run(child_tasks.leave_one))
        daemon = psutil.Process(await pool.run(child_tasks.leave_a_daemon))
        try:
            # Which of two tasks has started a process is known to one tick of 10 ms.
            newest = max(state.started for each in (left, daemon) if (state := status(each.pid)) is not None)
            await until(lambda: ticks() > newest)
            handle = pool.submit(child_tasks.wait_for_shell, gate.address)
            await gate.arrival()
            handle.cancel()
            assert await pool.run(child_tasks.helper_pid) == helper.pid
            await until(lambda: {process.pid for process in family(pool)} == {helper.pid, left.pid, daemon.pid})
            await pool.recycle()
            assert still_there([helper, left], PATIENCE_S) == []  # the worker has ended; the one that was forked anew
            assert daemon.is_running()
        finally:
            daemon.kill()


@pytest.mark.parametrize("how", [os.abort, partial(os._exit, 3), partial(os.kill, 0, signal.SIGKILL)])
async def test_a_worker_that_dies_takes_along_what_its_tasks_have_started(
    how: Callable[[], object], tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    async with Pool(max_workers=1) as pool:
        with pytest.raises(WorkerLost):
            await pool.run(child_tasks.die_with_one, how, str(told))
        child = int(told.read_text())
        await until(lambda: not psutil.pid_exists(child))
        await all_gone(pool)


@linux_only
async def test_a_killed_template_takes_along_what_tasks_have_started(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        left = psutil.Process(await pool.run(child_tasks.leave_one))
        handle = pool.submit(child_tasks.hang_in_c_with_shell, gate.address, retries=0)
        await gate.arrival()
        children = family(pool)
        os.kill(template_pid(pool), signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await handle
        assert still_there([left, *children], PATIENCE_S) == []
        assert await pool.run(os.getpid)


@pytest.mark.parametrize("ending", ["close", "kill"])
def test_as_process_1_the_server_leaves_neither_processes_nor_zombies(ending: str) -> None:
    """The script stands where process 1 of a container does: orphans come to it, and it reaps none."""
    with talking_to("process_one.py") as script:
        assert script.stdin is not None
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        below = psutil.Process(script.pid).children(recursive=True)
        assert [process for process in below if "sleep" in process.name()] != []  # one that a task has left
        if ending == "kill":
            script.kill()
        else:
            script.stdin.write("close\n")
            script.stdin.flush()
            assert script.stdout.readline() == "closed\n"
            end = time.monotonic() + PATIENCE_S
            while left := [p for p in psutil.Process(script.pid).children(recursive=True) if not is_helper(p)]:
                assert time.monotonic() < end, left
            script.stdin.close()
        script.wait(PATIENCE_S)
        assert still_there(below, PATIENCE_S) == []


def is_helper(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" in str(process.cmdline())
    except psutil.NoSuchProcess:
        return True
    except psutil.ZombieProcess:
        return False
