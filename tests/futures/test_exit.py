"""`lifepool.futures.ProcessPoolExecutor`: what becomes of work when the interpreter exits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import lifepool
from tests.engine.gates import PATIENCE_S, Gate
from tests.futures.helpers import ROOT, arrive, value
from tests.tasks import double

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lifepool.futures import ProcessPoolExecutor


def run_script(body: str, **environ: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys, os\nfrom lifepool.futures import ProcessPoolExecutor\nfrom tests import tasks\n{body}"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@contextlib.contextmanager
def running_script(body: str) -> Iterator[subprocess.Popen[str]]:
    script = f"import sys, os\nfrom lifepool.futures import ProcessPoolExecutor\nfrom tests import tasks\n{body}"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_script_that_forgets_shutdown_ends_and_its_work_is_done(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    done = run_script(
        f"executor = ProcessPoolExecutor(1)\n"
        f"for line in 'abc': executor.submit(tasks.append_line, {str(trace)!r}, line)"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert trace.read_text().split() == ["a", "b", "c"]


def test_work_that_is_submitted_in_the_last_lines_of_a_script_is_done(tmp_path: Path) -> None:
    script, trace = tmp_path / "script.py", tmp_path / "trace"
    script.write_text(
        "import atexit\n"
        "from lifepool.futures import ProcessPoolExecutor\n"
        "def note(path, line):\n"
        "    with open(path, 'a') as file:\n"
        "        file.write(line)\n"
        "if __name__ == '__main__':\n"
        "    executor = ProcessPoolExecutor(1)\n"
        f"    futures = [executor.submit(note, {str(trace)!r}, line) for line in 'abc']\n"
        "    atexit.register(lambda: print([future.exception() for future in futures]))\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[None, None, None]\n", "")
    assert sorted(trace.read_text()) == ["a", "b", "c"]


def test_a_script_waits_for_its_work_however_long_it_takes_and_says_what_for(gate: Gate) -> None:
    with running_script(
        "import lifepool._pool.pool_thread; lifepool._pool.pool_thread.REMIND_S = 0.05\n"
        f"ProcessPoolExecutor(1).submit(tasks.hold, {gate.address!r}).add_done_callback(lambda f: print(f.exception()))"
    ) as process:
        visitor = arrive(gate)
        assert process.stderr is not None
        assert process.stderr.readline() == (
            "the program has ended, its work has not: waiting for hold. Ctrl-C cancels it\n"
        )
        visitor.let_through()
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "None\n")


def test_ctrl_c_at_exit_cancels_what_is_left_and_says_so(gate: Gate) -> None:
    with running_script(
        "import lifepool._pool.pool_thread; lifepool._pool.pool_thread.REMIND_S = 0.05\n"
        "executor = ProcessPoolExecutor(1)\n"
        f"futures = [executor.submit(tasks.hold_in_c, {gate.address!r}) for _ in range(3)]\n"
        "import atexit; atexit.register(lambda: print([future.cancelled() for future in futures]))"
    ) as process:
        arrive(gate)
        assert process.stderr is not None
        process.stderr.readline()  # it waits
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert out == "[True, True, True]\n"
    assert "before these tasks were done, and cancels them: hold_in_c (3 times)" in err


def test_a_script_that_is_broken_off_does_not_wait_for_its_work(gate: Gate) -> None:
    with running_script(
        f"executor = ProcessPoolExecutor(1)\nexecutor.submit(tasks.hold_in_c, {gate.address!r}).result()"
    ) as process:
        arrive(gate)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert "before these tasks were done, and cancels them: hold_in_c" in err
    assert "has ended, its work has not" not in err


def test_a_with_block_that_ctrl_c_ends_does_not_wait_for_its_work(gate: Gate) -> None:
    with running_script(
        "with ProcessPoolExecutor(1) as executor:\n"
        f"    futures = [executor.submit(tasks.hold_in_c, {gate.address!r}) for _ in range(3)]\n"
        "    futures[0].result()"
    ) as process:
        arrive(gate)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGINT
    assert "before these tasks were done, and cancels them: hold_in_c (3 times)" in err


def test_a_script_with_a_hung_task_ends_after_the_drain_timeout_if_that_is_set(gate: Gate) -> None:
    done = run_script(
        f"executor = ProcessPoolExecutor(1)\n"
        f"future = executor.submit(tasks.hold_in_c, {gate.address!r})\n"
        f"import atexit; atexit.register(lambda: print('cancelled:', future.cancelled()))",
        LIFEPOOL_DRAIN_TIMEOUT="0.5",
    )
    assert (done.returncode, done.stdout) == (0, "cancelled: True\n")
    assert done.stderr == "the program ends before these tasks were done, and cancels them: hold_in_c\n"


def test_a_submit_at_exit_is_refused_as_by_the_standard_library() -> None:
    done = run_script(
        "import atexit\n"
        "executor = ProcessPoolExecutor(1)\n"
        "assert executor.submit(tasks.double, 1).result() == 2\n"
        "def late():\n"
        "    for each in (executor, ProcessPoolExecutor(1)):\n"
        "        try:\n"
        "            each.submit(tasks.double, 1)\n"
        "        except RuntimeError as error:\n"
        "            print(error)\n"
        "atexit.register(late)"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cannot schedule new futures after interpreter shutdown\n" * 2


def test_if_its_thread_ends_by_an_error_nobody_waits_for_ever(
    executor: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda what: raised.append(what.exc_type))

    async def broken(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lifepool._pool.pool_thread.PoolThread._send_calls", broken)
    with pytest.raises(lifepool.PoolClosed, match="thread has ended"):
        value(executor.submit(double, 1))
    assert executor._thread.join(PATIENCE_S)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)
    assert raised == [MemoryError]


def test_calls_that_fail_because_no_worker_can_start_are_in_the_log() -> None:
    """Nobody looks at their futures."""
    done = run_script(
        "executor = ProcessPoolExecutor(1, initializer=tasks.fail, initargs=('no model',))\n"
        "[executor.submit(tasks.double, number) for number in range(3)]"
    )
    assert "these calls fail: double (3 times): no worker can be started: ValueError: no model" in done.stderr
    assert done.stderr.count("these calls fail") == 1


def test_a_script_that_ends_with_an_error_still_ends() -> None:
    done = run_script(
        "executor = ProcessPoolExecutor(1)\nexecutor.submit(tasks.double, 1).result()\nraise SystemExit(7)"
    )
    assert (done.returncode, done.stderr) == (7, "")


def test_a_callback_that_outlives_shutdown_without_waiting_is_called_before_the_end() -> None:
    done = run_script(
        "executor = ProcessPoolExecutor(1)\n"
        "executor.submit(tasks.double, 21).add_done_callback(lambda f: print(f.result()))\n"
        "executor.shutdown(wait=False)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
