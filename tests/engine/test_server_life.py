"""Workers live exactly as long as their server, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.engine.scripts import SCRIPTS, environment, nothing_left, run_script, serving
from tests.gone import still_there


@pytest.mark.parametrize("state", ["python", "c", "sleep", "stubborn"])
def test_a_killed_server_takes_busy_workers_along(state: str) -> None:
    with serving(state) as server:
        pids = [*server.workers, server.template]
        assert len(set(pids)) == 3
        assert all(psutil.pid_exists(pid) for pid in pids)
        server.process.kill()
        server.process.wait(timeout=10)
        assert nothing_left(server.env)


def test_ctrl_c_ends_everything_quietly() -> None:
    with serving("c", "python", "sleep") as server:
        os.killpg(server.process.pid, signal.SIGINT)
        out, err = server.process.communicate(timeout=20)
        assert nothing_left(server.env)
    assert out == "interrupted\n"
    assert err == ""
    assert server.process.returncode == 0


def test_a_second_ctrl_c_ends_a_program_that_drains() -> None:
    program = (
        "import asyncio, logging, sys, time\n"
        "from lifepool import Pool\n"
        "from lifepool.hooks import Hook\n"
        "logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "class Says(Hook):\n"
        "    def task_sent(self, task): print('runs', flush=True)\n"
        "async def main():\n"
        "    pool = Pool(max_workers=1, drain_timeout=1000)\n"
        "    pool.add_hook(Says())\n"
        "    try:\n"
        "        async with pool:\n"
        "            pool.submit(time.sleep, 1000)\n"
        "            await asyncio.Event().wait()\n"
        "    finally:\n"
        "        print(pool.state.value, flush=True)\n"
        "asyncio.run(main())\n"
    )
    env = environment()
    with subprocess.Popen(
        [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for said in ("runs", "drains: it waits for 1 running"):
            while said not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert "cancelled them: sleep\n" in out
    assert out.endswith("\nclosed\n")
    assert "KeyboardInterrupt" in err
    assert nothing_left(env)


def test_ctrl_c_is_not_seen_by_workers() -> None:
    with serving("sleep") as server:
        for pid in [*server.workers, server.template]:
            assert os.getpgid(pid) == pid  # neither is in the terminal's foreground group
            os.kill(pid, signal.SIGINT)
        assert server.ask() in server.workers


def test_workers_and_template_survive_a_sigterm_meant_for_all() -> None:
    with serving("sleep") as server:
        for pid in [*server.workers, server.template]:
            os.kill(pid, signal.SIGTERM)
        assert server.ask() in server.workers
        os.kill(server.workers[-1], signal.SIGKILL)  # a successor can still be forked
        successor = server.ask()
        while successor in server.workers:  # the death was not noticed before the task was sent
            successor = server.ask()
        assert psutil.Process(successor).ppid() == server.template


def test_a_server_that_ends_its_pool_leaves_nothing() -> None:
    with serving("c", "stubborn") as server:
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(timeout=20) == 0
        assert nothing_left(server.env)


def test_a_killed_template_takes_its_workers_along_and_the_pool_recovers() -> None:
    with serving("sleep") as server:
        workers = [psutil.Process(pid) for pid in server.workers]
        os.kill(server.template, signal.SIGKILL)
        assert still_there(workers, 10) == []
        assert server.ask() not in server.workers


@pytest.mark.parametrize("states", [[], ["python"], ["c", "stubborn"]])
def test_a_program_that_ends_without_closing_its_pool_does_end(states: list[str]) -> None:
    done = run_script(str(SCRIPTS / "server.py"), "--end", *states)
    assert done.code == 0
    assert done.left_nothing
    assert "Traceback" not in done.err


def test_a_program_that_fails_leaves_nothing() -> None:
    program = (
        "import asyncio, sys\n"
        "from lifepool import Pool\n"
        "async def main():\n"
        "    await Pool(max_workers=2).start()\n"
        "    sys.exit(5)\n"
        "asyncio.run(main())\n"
    )
    done = run_script("-c", program)
    assert done.code == 5
    assert done.left_nothing


def test_importing_the_package_and_making_a_pool_start_nothing() -> None:
    program = (
        "import sys, psutil, lifepool\n"
        "pool = lifepool.Pool()\n"
        "assert not psutil.Process().children(), 'a process was started'\n"
        "assert psutil.Process().num_threads() == 1, 'a thread was started'\n"
    )
    done = run_script("-c", program)
    assert (done.code, done.text) == (0, "")
