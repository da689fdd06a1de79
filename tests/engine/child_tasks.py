"""Tasks that start processes of their own, and then hang, end or die."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

from lifepool import Pool
from lifepool.backends.local.worker import descendants
from tests.tasks import announce, hold_in_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

vars(descendants)["REAP_S"] = 20.0  # however slow the machine is, what was killed is reaped

SLEEP = ["sleep", "1000"]
GROUP = 'sleep 1000 & sh -c "sleep 1000 & echo there; wait"'


def wait_for_child(address: str) -> None:
    with subprocess.Popen(SLEEP) as child:
        announce(address).close()
        child.wait()


def wait_for_forgotten_child(address: str) -> None:
    """Nothing waits for it or kills it when the task is broken off."""
    child = subprocess.Popen(SLEEP)
    announce(address).close()
    child.wait()


pool = Pool(max_workers=1)


@pool.resource
def browser() -> Iterator[subprocess.Popen[bytes]]:
    """Such as a headless browser: started once for all tasks of a worker."""
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


@pool.resource
def broken_browser() -> NoReturn:
    subprocess.Popen(SLEEP)
    raise RuntimeError("no display")


def wait_for_browser(address: str) -> None:
    """Something of its own too, and a resource that fails."""
    subprocess.Popen(SLEEP)
    browser()
    with contextlib.suppress(RuntimeError):
        broken_browser()
    wait_for_forgotten_child(address)


def browser_pid() -> int:
    assert browser().poll() is None
    return browser().pid


kept: list[ProcessPoolExecutor] = []


def keep_an_executor(method: str) -> None:
    """An initializer: the executor starts its processes when it is first used."""
    kept.append(ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)))


def wait_for_kept_executor(address: str) -> None:
    """And for one that nobody keeps."""
    own = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    pids = {executor.submit(os.getpid).result() for executor in (own, kept[0])}
    assert len(pids) == 2
    own.submit(time.sleep, 1000)
    announce(address).close()
    time.sleep(1000)


def pid_in_kept_executor() -> int:
    return kept[0].submit(os.getpid).result()


def wait_for_shell(address: str) -> None:
    """A grandchild, and one below that."""
    shell = subprocess.Popen(["sh", "-c", GROUP], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    shell.stdout.readline()
    announce(address).close()
    shell.wait()


def wait_for_orphan(address: str) -> None:
    """Its parent, a shell, has ended: it is nobody's child here."""
    subprocess.run("sleep 1000 &", shell=True, check=True)
    announce(address).close()
    time.sleep(1000)


def wait_for_session(address: str) -> None:
    child = subprocess.Popen(SLEEP, start_new_session=True)
    announce(address).close()
    child.wait()


def wait_for_process(address: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    process.start()
    announce(address).close()
    process.join()


def wait_for_spawned_process(address: str) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(1000,))
    process.start()
    announce(address).close()
    process.join()


def hang_in_system(address: str) -> None:
    announce(address).close()
    os.system("sleep 1000")


def hang_in_c_with_shell(address: str) -> None:
    shell = subprocess.Popen(["sh", "-c", GROUP], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    shell.stdout.readline()
    hold_in_c(address)


def hang_in_c_with_session(address: str) -> None:
    subprocess.Popen(SLEEP, start_new_session=True)
    hold_in_c(address)


def leave_one() -> int:
    """A child that the task does not wait for; it is there to stay."""
    return subprocess.Popen(SLEEP).pid


def leave_a_daemon() -> int:
    """A process that has left its parent, its group and its session."""
    told = subprocess.run(
        ["sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1 </dev/null' &"],
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(told.stdout)


def die_with_one(how: Callable[[], Any], told: str) -> NoReturn:
    with open(told, "w") as file:
        file.write(str(leave_one()))
    how()
    raise AssertionError("it did not die")


def sessions_and_spawn() -> int:
    """Whether a process can be started in this worker, in each way."""
    ended = 0
    for method in ("fork", "forkserver", "spawn"):
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=int)
        process.start()
        process.join()
        ended += process.exitcode == 0
    return ended + (subprocess.run(["true"], check=True).returncode == 0)


helper: list[int] = []


def start_helper() -> None:
    """An initializer."""
    helper.append(leave_one())


def helper_pid() -> int:
    return helper[0]


def end_what_began_long_ago() -> int:
    """As if this task had begun before the worker, and was broken off; the child that it has started itself."""
    child = subprocess.Popen(SLEEP)
    descendants.end_started_since(time.perf_counter_ns() - 10**12)
    return child.pid
