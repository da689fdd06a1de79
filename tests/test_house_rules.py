"""The suite's own machinery: what leaks is seen, coroutines run where they were told to."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from multiprocessing import shared_memory
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.leaks import Snapshot, kill, leaks_since
from tests.loops import FACTORIES

SHORT = 0.05  # seconds of grace where the leak is certain to stay
ROOT = Path(__file__).parent.parent
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_an_innocent_test_leaks_nothing() -> None:
    assert not leaks_since(Snapshot.take())


def test_a_leaked_process_is_seen_and_can_be_killed() -> None:
    before = Snapshot.take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        leaked = leaks_since(before, SHORT)
        kill(leaked)
        assert [p.pid for p in leaked.processes] == [child.pid]
        assert f"process {child.pid} (" in str(leaked)
        assert child.wait(timeout=10) is not None


def test_a_leaked_grandchild_is_seen() -> None:
    before = Snapshot.take()
    program = (
        "import subprocess, sys;"
        "p = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0);"
        "print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        leaked = leaks_since(before, SHORT)
        kill(leaked)
    assert {p.pid for p in leaked.processes} == {child.pid, grandchild}


def test_what_a_program_starts_that_was_there_before_is_not_the_test_s() -> None:
    program = (
        "import subprocess, sys;"
        "input();"
        "p = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0);"
        "print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as lasting:
        before = Snapshot.take()
        assert lasting.stdin is not None
        assert lasting.stdout is not None
        lasting.stdin.write(b"\n")
        lasting.stdin.flush()
        worker = int(lasting.stdout.readline())
        now = Snapshot.take()
        assert worker in {p.pid for p in now.processes}
        assert not now.leaked_since(before)
        others = before.processes - {psutil.Process(lasting.pid)}
        kill(now.leaked_since(dataclasses.replace(before, processes=others)))


def test_a_leaked_thread_is_seen() -> None:
    before = Snapshot.take()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="straggler")
    thread.start()
    try:
        assert "thread 'straggler'" in str(leaks_since(before, SHORT))
    finally:
        release.set()
        thread.join()


@linux_only
def test_a_leaked_descriptor_is_seen() -> None:
    before = Snapshot.take()
    reader, writer = os.pipe()
    try:
        leaked = leaks_since(before, SHORT)
    finally:
        os.close(reader)
        os.close(writer)
    assert "2 file descriptor(s) to pipe:[" in str(leaked)


@linux_only
def test_a_second_descriptor_to_the_same_file_is_seen() -> None:
    with open(os.devnull) as first:
        before = Snapshot.take()
        second = os.dup(first.fileno())
        try:
            leaked = leaks_since(before, SHORT)
        finally:
            os.close(second)
    assert leaked.fds == {os.devnull: 1}


@linux_only
def test_leaked_shared_memory_is_seen() -> None:
    before = Snapshot.take()
    segment = shared_memory.SharedMemory(create=True, size=16)
    try:
        leaked = leaks_since(before, SHORT)
    finally:
        segment.close()
        segment.unlink()
    assert leaked.shm == {segment.name.lstrip("/")}


def test_what_goes_away_within_the_grace_is_no_leak() -> None:
    before = Snapshot.take()
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    threading.Timer(0.02, release.set).start()
    assert not leaks_since(before)


def test_the_helpers_of_multiprocessing_may_stay_but_its_workers_may_not() -> None:
    before = Snapshot.take()
    context = multiprocessing.get_context("forkserver")
    gate = context.Event()
    worker = context.Process(target=gate.wait)
    worker.start()
    try:
        assert [p.pid for p in leaks_since(before, SHORT).processes] == [worker.pid]
    finally:
        gate.set()
        worker.join()
        worker.close()
    del gate
    assert not leaks_since(before)


def run_inner(pytester: pytest.Pytester, body: str) -> pytest.RunResult:
    """Run a test file under this suite's conftest, in a process of its own."""
    pytester.makeconftest(
        "from tests import leaks\nleaks.GRACE = 0.5\n"
        "from tests.conftest import *\nfrom tests.conftest import _nothing_leaks"
    )
    pytester.makeini(f"[pytest]\nmarkers = all_loops\npythonpath = {ROOT}\nfilterwarnings = error\n")
    pytester.makepyfile(body)
    pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take a second to load
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=40)


@linux_only
def test_a_test_that_leaks_fails_and_says_what(pytester: pytest.Pytester) -> None:
    result = run_inner(
        pytester,
        """
        import subprocess, sys, os
        def test_leaks():
            global child
            child = subprocess.Popen(
                [sys.executable, "-c", "print('it sleeps', flush=True); input()"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            child.stdout.readline()
        def test_next_one_is_clean():
            child.stdin.close()
            child.stdout.close()
            assert child.poll() is not None or child.wait(timeout=10) is not None
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the test left behind:*", "*process * (sleeping): *input()*"])


def test_a_failing_coroutine_fails_its_test(pytester: pytest.Pytester) -> None:
    result = run_inner(
        pytester,
        """
        import asyncio
        async def test_fails():
            await asyncio.sleep(0)
            assert False
        """,
    )
    result.assert_outcomes(failed=1)


async def test_a_coroutine_runs_on_plain_asyncio_by_default(tmp_path: Path) -> None:
    assert tmp_path.is_dir()  # a fixture reaches it
    assert isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)


@given(st.integers())
def test_a_property_test_works_beside_the_leak_check(number: int) -> None:
    assert number == int(str(number))


@pytest.mark.all_loops
async def test_a_marked_coroutine_runs_on_every_loop(request: pytest.FixtureRequest, loop_kind: str) -> None:
    loop = asyncio.get_running_loop()
    eager = loop.get_task_factory() is not None
    assert ("eager" if eager else type(loop).__module__.split(".")[0]) == loop_kind
    same = [item for item in request.session.items if item.location[2].partition("[")[0] == request.function.__name__]
    assert {item.name.partition("[")[2] for item in same} == {f"{kind}]" for kind in FACTORIES}


async def test_a_test_can_ask_for_the_name_of_its_loop(loop_kind: str) -> None:
    assert loop_kind in FACTORIES


@pytest.mark.parametrize("loop_kind", ["uvloop"])
async def test_a_test_can_choose_its_loop(loop_kind: str) -> None:
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")


async def test_threads_of_the_default_executor_are_joined_at_the_end() -> None:
    assert await asyncio.to_thread(threading.current_thread) is not threading.main_thread()


def test_the_inner_loop_and_the_matrix_name_files_that_exist() -> None:
    done = subprocess.run(["make", "-n", "test-quick", "matrix"], cwd=ROOT, capture_output=True, text=True, check=True)
    named = re.findall(r"tests/[\w/.]+", done.stdout)
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []
