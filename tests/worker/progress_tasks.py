"""Tasks that report their progress, from several threads and in bad moments."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any, NoReturn

from lifepool import report_progress
from lifepool.backends.local.worker import reporting
from tests.tasks import hold


def report_each(values: list[Any]) -> None:
    for value in values:
        report_progress(value)


def report_each_and_fail(values: list[Any]) -> NoReturn:
    report_each(values)
    raise ValueError("after the last report")


def report_each_and_hold(values: list[Any], address: str) -> None:
    report_each(values)
    hold(address)


def report_number(number: int) -> int:
    report_progress(number / 4)
    return number


def report_in_thread(values: list[Any]) -> None:
    thread = threading.Thread(target=report_each, args=(values,))
    thread.start()
    thread.join()


def report_in_threads_and_return(count: int, size: int) -> bytes:
    """Many frames from many threads, and a large answer at the same time."""
    begun = threading.Barrier(count + 1)

    def report() -> None:
        begun.wait()
        for number in range(50):
            report_progress(bytes([number]) * size)

    threads = [threading.Thread(target=report) for _ in range(count)]
    for thread in threads:
        thread.start()
    begun.wait()
    threads[0].join()
    return bytes(size)


def report_from_thread_until_broken_off(address: str, trace: str) -> None:
    """A thread reports while the main one is held; the trace tells which of them was broken off."""
    stop = threading.Event()

    def report() -> None:
        try:
            for number in itertools.count():
                if stop.wait(0.001):
                    return
                report_progress(number)
        except BaseException as error:
            Path(trace).write_text(f"the thread: {error!r}")

    thread = threading.Thread(target=report)
    thread.start()
    try:
        hold(address)
    except BaseException as error:
        Path(trace).write_text(f"the task: {type(error).__name__}")
        raise
    finally:
        stop.set()
        thread.join()


def leave_a_reporter(address: str) -> None:
    """Its thread reports when the gate lets it through, which is after this task's end."""

    def report() -> None:
        hold(address)
        report_progress("of an earlier task")
        hold(address)

    threading.Thread(target=report, daemon=True).start()


def report_unpicklable_after(values: list[Any]) -> None:
    report_each([*values, threading.Lock()])


def report_zeros_after(values: list[Any], count: int) -> None:
    report_each([*values, bytes(count)])


def report_unpicklable_and_fail() -> NoReturn:
    reporting.PROGRESS_EVERY_S = 1000.0  # however slow the machine is, the second comes close to the first
    report_each_and_fail([0.1, threading.Lock()])
