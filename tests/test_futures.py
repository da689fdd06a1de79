"""`lifepool.futures.ProcessPoolExecutor`: what users of `concurrent.futures` rely on, and what it does better."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, as_completed, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

import lifepool
from lifepool._inside import state as _inside
from lifepool.futures import ProcessPoolExecutor
from tests.engine.gates import PATIENCE_S, Gate
from tests.tasks import concatenate, double, echo, exit_hard, fail, fail_for_three, hold, load, what_is_loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as opened:
        yield opened


@pytest.fixture
def executor() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1) as opened:
        yield opened


def value(future: Future[Any]) -> Any:
    return future.result(timeout=PATIENCE_S)


def arrive(gate: Gate) -> Any:
    return asyncio.run(gate.arrival())


def power(base: int, exponent: int) -> int:
    return int(base**exponent)


# --- submit ---------------------------------------------------------------------------------------------------------


def test_a_call_runs_in_another_process(executor: ProcessPoolExecutor) -> None:
    assert value(executor.submit(os.getpid)) != os.getpid()


def test_keywords_are_the_functions_own(executor: ProcessPoolExecutor) -> None:
    assert value(executor.submit(concatenate, "a", "b", separator="-")) == "a-b"


def test_a_function_may_have_arguments_named_fn_and_self(executor: ProcessPoolExecutor) -> None:
    assert value(executor.submit(dict, self=1, fn=2)) == {"self": 1, "fn": 2}


def test_an_exception_is_raised_as_itself_with_the_workers_traceback(executor: ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="no luck") as caught:
        value(executor.submit(fail, "no luck"))
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ((lambda: None,), lifepool.TaskNotPicklable),
        ((echo, threading.Lock()), lifepool.TaskNotPicklable),
        ((asyncio.sleep, 0), TypeError),
    ],
)
def test_a_call_that_cannot_be_sent_fails_its_future(
    executor: ProcessPoolExecutor, call: tuple[Any, ...], error: type[Exception]
) -> None:
    future = executor.submit(*call)
    with pytest.raises(error):
        value(future)
    assert value(executor.submit(double, 1)) == 2


def test_a_dead_worker_fails_only_its_own_future(executor: ProcessPoolExecutor, gate: Gate) -> None:
    before = executor.submit(double, 1)
    dying = executor.submit(exit_hard, 3)
    after = [executor.submit(double, number) for number in range(10)]
    with pytest.raises(lifepool.WorkerLost) as caught:
        value(dying)
    assert caught.value.exitcode == 3
    assert value(before) == 2
    assert [value(future) for future in after] == [2 * number for number in range(10)]


def test_thousands_of_calls_may_wait(executor: ProcessPoolExecutor, gate: Gate) -> None:
    first = executor.submit(hold, gate.address)
    visitor = arrive(gate)
    rest = [executor.submit(double, number) for number in range(3000)]
    visitor.let_through()
    assert value(first) is None
    assert sum(map(value, rest)) == 2 * sum(range(3000))


def test_it_can_be_used_from_several_threads(executor: ProcessPoolExecutor) -> None:
    answers: dict[int, list[int]] = {}

    def use(base: int) -> None:
        futures = [executor.submit(double, base + offset) for offset in range(50)]
        answers[base] = [value(future) for future in futures]

    threads = [threading.Thread(target=use, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == {1000 * n: [2 * (1000 * n + offset) for offset in range(50)] for n in range(4)}


async def test_it_serves_run_in_executor(executor: ProcessPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    answers = await asyncio.gather(*(loop.run_in_executor(executor, double, number) for number in range(20)))
    assert answers == [2 * number for number in range(20)]


async def test_cancelling_what_runs_in_executor_breaks_the_task_off(executor: ProcessPoolExecutor, gate: Gate) -> None:
    waiting = asyncio.get_running_loop().run_in_executor(executor, hold, gate.address)
    visitor = await gate.arrival()
    waiting.cancel()
    await visitor.gone()
    assert await asyncio.get_running_loop().run_in_executor(executor, double, 2) == 4


# --- futures --------------------------------------------------------------------------------------------------------


def test_a_queued_task_can_be_cancelled_and_never_runs(
    executor: ProcessPoolExecutor, gate: Gate, tmp_path: Path
) -> None:
    first = executor.submit(hold, gate.address, "first")
    visitor = arrive(gate)
    second = executor.submit(Path.touch, tmp_path / "ran")
    assert second.cancel()
    assert second.cancelled()
    with pytest.raises(CancelledError):
        value(second)
    visitor.let_through()
    assert value(first) == "first"
    assert value(executor.submit(double, 1)) == 2
    assert not (tmp_path / "ran").exists()


def test_a_running_task_can_be_cancelled_and_is_broken_off(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = executor.submit(hold, gate.address)
    visitor = arrive(gate)
    assert future.cancel()
    asyncio.run(visitor.gone())
    assert value(executor.submit(double, 1)) == 2


def test_a_finished_task_can_no_longer_be_cancelled(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(double, 1)
    assert value(future) == 2
    assert not future.cancel()
    assert value(future) == 2


def test_wait_hears_of_results_errors_and_cancelled_ones(executor: ProcessPoolExecutor, gate: Gate) -> None:
    good, bad, held = executor.submit(double, 1), executor.submit(fail, "x"), executor.submit(hold, gate.address)
    arrive(gate)
    waiting = executor.submit(double, 2)
    waiting.cancel()
    everything: list[Future[Any]] = [good, bad, waiting, held]
    done, open_ones = wait(everything, timeout=0.5)
    assert (done, open_ones) == ({good, bad, waiting}, {held})
    held.cancel()
    done, open_ones = wait([held], timeout=PATIENCE_S)
    assert (done, open_ones) == ({held}, set())


def test_as_completed_hands_out_what_is_ready_first(gate: Gate) -> None:
    with ProcessPoolExecutor(2) as executor:
        slow = executor.submit(hold, gate.address, "slow")
        visitor = arrive(gate)
        quick = executor.submit(echo, "quick")
        completed = as_completed([slow, quick], timeout=PATIENCE_S)
        assert next(completed) is quick
        visitor.let_through()
        assert next(completed) is slow


def test_a_callback_is_called_once_the_answer_is_there(executor: ProcessPoolExecutor) -> None:
    answered = threading.Event()
    seen: list[int] = []

    def note(done: Future[int]) -> None:
        seen.append(done.result())
        answered.set()

    executor.submit(double, 4).add_done_callback(note)
    assert answered.wait(PATIENCE_S)
    assert seen == [8]


def test_waiting_for_a_result_can_be_limited(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = executor.submit(hold, gate.address, "late")
    visitor = arrive(gate)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    visitor.let_through()
    assert value(future) == "late"


# --- map ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 10, 1000])
def test_map_keeps_the_order(executor: ProcessPoolExecutor, chunksize: int) -> None:
    assert list(executor.map(double, range(10), chunksize=chunksize)) == [2 * number for number in range(10)]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_takes_several_iterables_and_ends_with_the_shortest(executor: ProcessPoolExecutor, chunksize: int) -> None:
    assert list(executor.map(power, [2, 3, 4, 5], [2, 3, 4], chunksize=chunksize)) == [4, 27, 256]


def test_map_of_nothing_is_nothing(executor: ProcessPoolExecutor) -> None:
    assert list(executor.map(double, [])) == []
    assert list(executor.map(double, [], chunksize=5)) == []


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_raises_the_exception_in_its_place(executor: ProcessPoolExecutor, chunksize: int) -> None:
    results = executor.map(fail_for_three, range(1, 6), chunksize=chunksize)
    assert (next(results), next(results)) == (1, 2)
    with pytest.raises(ValueError, match="no 3"):
        next(results)


def test_map_gives_up_after_its_timeout_and_breaks_the_task_off(executor: ProcessPoolExecutor, gate: Gate) -> None:
    results = executor.map(hold, [gate.address], timeout=0.5)
    visitor = arrive(gate)
    with pytest.raises(TimeoutError):
        next(results)
    asyncio.run(visitor.gone())


def test_map_refuses_a_senseless_chunksize(executor: ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="chunksize=0: expected a whole number >= 1"):
        executor.map(double, [1], chunksize=0)


# --- construction ---------------------------------------------------------------------------------------------------


def test_the_initializer_runs_in_each_worker() -> None:
    with ProcessPoolExecutor(1, initializer=load, initargs=("model",)) as executor:
        _, loaded = value(executor.submit(what_is_loaded))
        assert loaded == ["model"]


def test_an_initializer_that_fails_fails_the_futures_and_says_why() -> None:
    with ProcessPoolExecutor(1, initializer=fail, initargs=("no model",)) as executor:
        for _ in range(2):  # each call tries again
            with pytest.raises(lifepool.WorkerStartError, match="no model"):
                value(executor.submit(double, 1))


def test_a_worker_is_replaced_after_its_tasks() -> None:
    with ProcessPoolExecutor(1, max_tasks_per_child=1) as executor:
        first, second = (value(executor.submit(os.getpid)) for _ in range(2))
    assert first != second


def test_the_positional_order_is_the_standard_librarys() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, load, ("model",), max_tasks_per_child=5) as executor:
        assert value(executor.submit(what_is_loaded))[1] == ["model"]


def test_arguments_without_an_initializer_are_ignored_as_in_the_standard_library() -> None:
    with ProcessPoolExecutor(1, initargs=("unused",)) as executor:
        assert value(executor.submit(double, 1)) == 2


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: ProcessPoolExecutor(0), ValueError),
        (lambda: ProcessPoolExecutor(-1), ValueError),
        (lambda: ProcessPoolExecutor(cast("Any", "2")), TypeError),
        (lambda: ProcessPoolExecutor(initializer=cast("Any", 5)), TypeError),
        (lambda: ProcessPoolExecutor(max_tasks_per_child=0), ValueError),
        (lambda: ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")), ValueError),
    ],
)
def test_a_wrong_argument_is_refused_at_once(make: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_nothing_starts_before_the_first_call() -> None:
    before = threading.active_count()
    with ProcessPoolExecutor(1):
        assert threading.active_count() == before


def test_max_workers_is_where_other_libraries_look_for_it() -> None:
    assert ProcessPoolExecutor(3)._max_workers == 3


def test_it_refuses_to_run_while_a_worker_imports_and_names_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_inside, "phase", _inside.Phase.IMPORTING)
    monkeypatch.setattr(_inside, "start_refused", False)
    with pytest.raises(lifepool.PoolClosed, match="__main__"):
        ProcessPoolExecutor(1).submit(double, 1)
    assert _inside.start_refused


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("threading.Thread.start", RuntimeError("can't start new thread")),
        ("asyncio.new_event_loop", OSError(errno.EMFILE, "Too many open files")),
    ],
)
def test_a_call_for_which_the_system_has_nothing_left_is_refused_and_the_next_one_runs(
    where: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise error

    with ProcessPoolExecutor(1) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(where, refuse)
            with pytest.raises(type(error), match=str(error.args[-1])):
                executor.submit(double, 1)
        assert executor.submit(double, 21).result(timeout=PATIENCE_S) == 42


def test_after_shutdown_nothing_is_taken() -> None:
    for executor in (ProcessPoolExecutor(1), ProcessPoolExecutor(1)):
        executor.shutdown()
        executor.shutdown()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(double, 1)
        with pytest.raises(RuntimeError):
            list(executor.map(double, [1]))


def test_shutdown_finishes_what_is_there(gate: Gate) -> None:
    executor = ProcessPoolExecutor(1)
    futures = [executor.submit(hold, gate.address, "held"), *(executor.submit(double, n) for n in range(5))]
    visitor = arrive(gate)
    executor.shutdown(wait=False)
    assert not futures[0].done()
    visitor.let_through()
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == ["held", 0, 2, 4, 6, 8]


def test_shutdown_can_cancel_what_waits_and_still_finishes_what_runs(gate: Gate) -> None:
    executor = ProcessPoolExecutor(1)
    running = executor.submit(hold, gate.address, "held")
    visitor = arrive(gate)
    waiting = [executor.submit(double, number) for number in range(5)]
    executor.shutdown(wait=False, cancel_futures=True)
    done, _ = wait(waiting, timeout=PATIENCE_S)
    assert done == set(waiting)
    visitor.let_through()
    executor.shutdown()
    assert running.result(timeout=0) == "held"
    assert all(future.cancelled() for future in waiting)


def test_while_the_workers_start_calls_can_be_cancelled(gate: Gate) -> None:
    with ProcessPoolExecutor(1, initializer=hold, initargs=(gate.address,)) as executor:
        first, second = executor.submit(double, 1), executor.submit(double, 2)
        visitor = arrive(gate)
        assert first.cancel()
        visitor.let_through()
        done, _ = wait([first, second], timeout=PATIENCE_S)
        assert done == {first, second}
        assert value(second) == 4


def test_shutdown_while_the_workers_start_can_cancel_all_calls(gate: Gate) -> None:
    executor = ProcessPoolExecutor(1, initializer=hold, initargs=(gate.address,))
    futures = [executor.submit(double, number) for number in range(3)]
    visitor = arrive(gate)
    executor.shutdown(wait=False, cancel_futures=True)
    visitor.let_through()
    done, _ = wait(futures, timeout=PATIENCE_S)
    assert done == set(futures)
    assert all(future.cancelled() for future in futures)
    executor.shutdown()


def test_shutdown_right_after_the_calls_loses_none() -> None:
    for _ in range(3):
        with ProcessPoolExecutor(1) as executor:
            futures = [executor.submit(double, number) for number in range(20)]
        assert [future.result(timeout=0) for future in futures] == [2 * number for number in range(20)]


def test_shutdown_from_a_callback_does_not_wait_for_itself() -> None:
    executor = ProcessPoolExecutor(1)
    returned = threading.Event()

    def end(_: Future[int]) -> None:
        executor.shutdown()
        returned.set()

    executor.submit(double, 1).add_done_callback(end)
    assert returned.wait(PATIENCE_S)
    executor.shutdown()


def test_a_forgotten_executor_finishes_its_work_and_ends() -> None:
    future = ProcessPoolExecutor(1).submit(double, 21)  # nobody holds the executor now
    gc.collect()
    assert value(future) == 42  # and the leak check of every test sees thread and worker go


# --- interpreter exit -----------------------------------------------------------------------------------------------


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
        "import lifepool.futures; lifepool._pool.pool_thread.REMIND_S = 0.05\n"
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
        "import lifepool.futures; lifepool._pool.pool_thread.REMIND_S = 0.05\n"
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
