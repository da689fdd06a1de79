"""A server that is forked (``os.fork``, ``multiprocessing`` with "fork"): the child has no part in the pool."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from lifepool import Pool
from lifepool.backends.local import fork_safety as forked
from tests import tasks
from tests.engine.scripts import ROOT, SCRIPTS, environment, marked, nothing_left, run_script
from tests.faults.inside import backend_of, only_channel
from tests.gone import still_there

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = str(SCRIPTS / "forking_server.py")
HOWS = pytest.mark.parametrize("how", ["os", "multiprocessing"])


@contextmanager
def forking_server(how: str, deed: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str], list[int]]]:
    """A server that has forked a helper; its process, its environment, and the pids of helper, template, workers."""
    env = environment()
    command = [sys.executable, SCRIPT, how, deed]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, env, [int(pid) for pid in process.stdout.readline().split()]
        finally:
            process.kill()
            nothing_left(env)


@HOWS
def test_a_helper_that_the_server_forked_does_not_keep_its_workers_alive(how: str) -> None:
    with forking_server(how, "sleep") as (server, env, [helper, *_]):
        assert server.stdout is not None
        assert server.stdout.readline() == "ok\n"
        others = [process for process in marked(env) if process.pid not in (helper, server.pid)]
        # The standard library's own helper lives as long as any process that has used multiprocessing.
        others = [process for process in others if "resource_tracker" not in " ".join(process.cmdline())]
        assert len(others) >= 5  # two templates and three workers
        server.kill()
        server.wait(timeout=10)
        assert still_there(others, 10) == []
        psutil.Process(helper).kill()


@HOWS
def test_a_forked_child_that_ends_leaves_the_pool_alone(how: str) -> None:
    done = run_script(SCRIPT, how, "exit")
    assert (done.code, done.err, done.left_nothing) == (0, "", True)
    assert done.out.splitlines()[1:] == ["ok"]


@HOWS
def test_a_forked_child_that_uses_the_pool_is_refused_and_the_pool_goes_on(how: str) -> None:
    done = run_script(SCRIPT, how, "use")
    assert (done.code, done.err, done.left_nothing) == (0, "", True)
    refusals = ["pool: PoolClosed", "executor: cannot schedule new futures after shutdown", "own: 42"]
    refusals += ["then: closed", "from_thread: PoolClosed", "recycle: PoolClosed"]
    assert set(refusals) | {"ok"} <= set(done.out.splitlines())


@pytest.mark.filterwarnings("ignore:This process")  # Python 3.12 warns of threads
async def test_a_forked_child_has_no_descriptor_of_the_pool() -> None:
    """Asked of the objects in the child itself: what they had is closed there, and open here."""
    async with Pool(max_workers=1) as pool:
        assert await pool.run(tasks.double, 21) == 42
        backend, channel = backend_of(pool), only_channel(pool)
        (member,) = backend._connections.values()
        fds = [
            backend._template._line.fileno(),
            member.process.sentinel,
            *member.process._popen._kept,
            channel._wire.fileno(),
            channel._tickets.fileno(),
            channel.worker_tickets.fileno(),
            channel._control,
        ]
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, "".join("x" if _is_open(fd) else "." for fd in fds).encode())
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(pid, 0)
        assert os.read(reading, 100) == b"." * len(fds)
        os.close(reading)
        assert all(map(_is_open, fds))
        assert await pool.run(tasks.double, 21) == 42


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.filterwarnings("ignore:This process")
def test_a_fork_waits_until_descriptors_that_are_being_made_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for ever: at most for the patience, which is long here because a machine may be slow."""
    monkeypatch.setattr(forked, "_PATIENCE_S", 20.0)
    held, let_go = threading.Event(), threading.Event()

    def make() -> None:
        with forked.making:
            held.set()
            let_go.wait(20)

    maker = threading.Thread(target=make)
    maker.start()
    assert held.wait(20)
    before = time.monotonic()
    threading.Timer(0.05, let_go.set).start()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if let_go.is_set() and forked.making.acquire(timeout=5) else 1)
    assert time.monotonic() - before < 20
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    maker.join()
