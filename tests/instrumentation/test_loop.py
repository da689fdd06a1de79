"""Who blocks the loop is seen while it does, and nobody is blamed for a process that was merely stopped."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool
from lifepool.instrumentation.lag import LagMeter
from lifepool.instrumentation.loop import LoopWatch
from lifepool.instrumentation.stack import find_blocking_call
from lifepool.instrumentation.watchdog import BlockDetector
from tests.engine.gates import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


class Heard(logging.Handler):
    """A handler that sets an event at the first warning, from any thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.event = threading.Event()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.event.set()


async def blocked_by(block: Callable[[], object], watch: LoopWatch, times: int = 1) -> Heard:
    """Return what was logged while these functions blocked the loop."""
    heard = Heard()
    logger = logging.getLogger("lifepool")
    logger.addHandler(heard)
    try:
        async with Pool(backend="inline") as pool:
            pool.add_hook(watch)
            dog = watch._watchdog
            assert dog is not None
            for _ in range(times):
                await until(lambda: watch.lag.base is not None and dog._block is None)
                block()
    finally:
        logger.removeHandler(heard)
    return heard


@pytest.mark.all_loops
async def test_the_function_that_blocks_is_named_while_it_does() -> None:
    watch = LoopWatch(0.05)
    seen = threading.Event()
    watch._report = chained(watch._report, seen)  # type: ignore[method-assign]

    def reads_a_slow_disk() -> None:
        assert seen.wait(PATIENCE_S)

    heard = await blocked_by(reads_a_slow_disk, watch)
    (message,) = [each for each in heard.messages if "reads_a_slow_disk (" in each]
    assert re.search(
        r"has been blocked for \d+\.\d\d s by \S*reads_a_slow_disk \(\S+test_loop\.py:\d+\): every", message
    )
    assert "await pool.run(function, ...)" in message
    stack = message.splitlines()
    assert "assert seen.wait(PATIENCE_S)" in message, "the line"
    assert "blocked_by" in "".join(stack), "and who called it"
    assert "run_forever" not in message, "but not the loop"
    assert "pytest" not in message, "nor what is below it"
    (block,) = [each for each in watch.blocks if each.blocking_call.function.endswith("reads_a_slow_disk")]
    assert block.seconds >= 0.05


def chained(report: Callable[..., None], event: threading.Event) -> Callable[..., None]:
    def both(*args: object) -> None:
        report(*args)
        event.set()

    return both


async def test_a_regular_expression_that_holds_the_interpreter_is_named_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a machine whose CPUs are all busy it gets less than its share, for which a loop is excused: not here.
    monkeypatch.setattr("lifepool.instrumentation.watchdog.WORKED", 0.01)
    watch = LoopWatch(0.1)

    def matches() -> None:
        for length in range(14, 40):  # each takes twice as long as the one before, until one has been noticed
            began = perf_counter()
            re.match(r"(a+)+$", "a" * length + "b")
            if watch.blocks or perf_counter() - began > PATIENCE_S:
                return

    heard = await blocked_by(matches, watch)
    message = next(each for each in heard.messages if "matches (" in each)
    assert "re.match" in message


async def test_the_same_function_is_logged_once_and_counted() -> None:
    watch = LoopWatch(0.02, repeat_after=1000.0)
    counts: list[int] = []

    def blocks() -> None:
        count = len(watch.blocks)
        deadline = perf_counter() + PATIENCE_S
        while len(watch.blocks) == count and perf_counter() < deadline:
            threading.Event().wait(0.001)
        counts.append(len(watch.blocks))

    heard = await blocked_by(blocks, watch, times=3)
    assert len([message for message in heard.messages if "blocks (" in message]) == 1
    assert counts[-1] >= 3


async def test_a_loop_that_comes_round_is_left_alone() -> None:
    watch = LoopWatch(30.0)

    def is_looked_at() -> None:
        assert watch._watchdog is not None
        watch._watchdog._look()

    heard = await blocked_by(is_looked_at, watch, times=3)
    assert heard.messages == []
    assert not watch.blocks


async def test_the_thread_ends_with_the_pool_and_when_the_hook_is_removed() -> None:
    watch = LoopWatch()
    async with Pool(backend="inline") as pool:
        pool.add_hook(watch)
        assert [thread.name for thread in threading.enumerate()].count("lifepool-loop-watch") == 1
        pool.remove_hook(watch)
        assert "lifepool-loop-watch" not in [thread.name for thread in threading.enumerate()]
        pool.add_hook(watch)
    assert "lifepool-loop-watch" not in [thread.name for thread in threading.enumerate()]


async def test_one_watch_is_for_one_pool(caplog: pytest.LogCaptureFixture) -> None:
    watch = LoopWatch()
    async with Pool(backend="inline") as one, Pool(backend="inline") as other:
        one.add_hook(watch)
        other.add_hook(watch)
        assert "make another one" in caplog.text
        assert other.hooks == ()
        assert watch._watchdog is not None
        assert watch._watchdog.is_alive()
        one.remove_hook(watch)


def test_the_thread_ends_with_a_loop_that_was_closed_without_notice() -> None:
    watch, pool = LoopWatch(0.01), Pool(backend="inline")

    async def start() -> None:
        pool.add_hook(watch)
        await pool.start()

    with asyncio.Runner() as runner:
        runner.run(start())
    assert watch._watchdog is not None
    watch._watchdog.join(PATIENCE_S)
    assert not watch._watchdog.is_alive()

    async def start_again() -> None:
        async with pool:
            assert watch._watchdog is not None
            assert watch._watchdog.is_alive()

    asyncio.run(start_again())


def test_a_threshold_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="expected seconds above 0"):
        LoopWatch(0.0)


STOPPED = """
import asyncio, logging, sys
from lifepool import Pool
from lifepool.instrumentation.loop import LoopWatch
logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
async def main():
    watch = LoopWatch(0.05)
    async with Pool(backend="inline") as pool:
        pool.add_hook(watch)
        loop, line = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(0, line.set)
        print("ready", flush=True)
        await line.wait()
        while watch.lag.snapshot().count < 5 or watch.recent().max < 0.3: await asyncio.sleep(0.01)
    print("blocks:", len(watch.blocks), flush=True)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no clock of a thread's work")
def test_a_process_that_was_stopped_blames_nobody() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGCONT)
        rest, _ = process.communicate("go\n", timeout=PATIENCE_S)
    assert rest == "blocks: 0\n"


# --- the detector, by the clock -------------------------------------------------------------------------------------


def judged(*looks: tuple[float, float, float]) -> list[float | None]:
    """Return what the detector says at (now, due, cpu); the threshold is 0.1 s."""
    detector = BlockDetector(0.1, 0.025)
    return [detector.late_since(*look) for look in looks]


def test_a_loop_in_time_is_not_late() -> None:
    assert judged((0.0, 0.05, 0.0), (0.025, 0.05, 0.0), (0.05, 0.1, 0.0)) == [None, None, None]


def test_who_waits_in_the_loop_is_seen_at_the_threshold() -> None:
    looks = [(n * 0.025, 0.0, 0.0) for n in range(6)]
    assert judged(*looks) == [None, None, None, None, None, 0.0]


def test_nobody_looks_before_there_may_be_something_to_see() -> None:
    detector = BlockDetector(0.1, 0.025)
    detector.late_since(0.0, 0.05, 0.0)
    assert detector.pause == pytest.approx(0.15)
    detector.late_since(0.15, 0.19, 0.1)
    assert detector.pause == pytest.approx(0.14)
    detector.late_since(0.3, 0.19, 0.1)
    assert detector.pause == 0.025, "while it is late"


def test_who_computes_and_lets_nobody_look_is_seen_afterwards() -> None:
    assert judged((0.0, 0.05, 0.0), (2.0, 0.05, 1.9)) == [None, 0.05]


def test_a_process_that_slept_is_excused_and_then_watched_anew() -> None:
    assert judged((0.0, 0.05, 0.0), (100.0, 0.05, 0.01), (100.05, 0.05, 0.01), (100.12, 0.05, 0.08)) == [
        None,
        None,
        None,
        100.0,
    ]


async def test_the_lag_of_a_loop_that_stands_still_is_its_lag_now() -> None:
    meter = LagMeter(0.001)
    meter.start()
    await until(lambda: meter.snapshot().count > 3)
    calm = meter.recent()
    threading.Event().wait(0.05)
    assert meter.recent().max >= 0.045
    assert meter.recent().as_dict()["p50"] <= meter.recent().p99 <= meter.recent().max
    assert calm.p50 <= calm.p99 <= calm.max
    meter.stop()


@pytest.mark.all_loops
async def test_a_loop_that_waits_for_events_is_not_blocked() -> None:
    meter, thread = LagMeter(0.001), threading.get_ident()
    meter.start()
    await until(lambda: meter.base is not None)
    meter.stop()
    assert meter.base is not None
    assert await asyncio.to_thread(seen_waiting, thread, meter.base) == {None}


def seen_waiting(thread: int, base: int) -> set[object]:
    """Return the blocking calls that are found while the loop only waits for this function."""
    deadline = perf_counter() + PATIENCE_S
    while find_blocking_call(thread, base) is not None:
        assert perf_counter() < deadline
    return {find_blocking_call(thread, base) for _ in range(100)}
