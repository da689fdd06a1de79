"""What does one task cost in the pure core, and what of that is the price of events and commands?

Run from the root of the checkout: ``python -m experiments.core_step``. It takes about ten seconds.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import statistics
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core.policy import Limits
from lifepool._core.scheduler import Scheduler
from lifepool._core.states import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
TASKS = 20_000


def started_scheduler(workers: int) -> Scheduler:
    """Return a scheduler in state RUNNING with idle workers."""
    limits = Limits(max_workers=workers, min_workers=workers, max_queue=10_000)
    scheduler = Scheduler(limits, random=lambda: 0.5)
    scheduler.handle(on.StartRequested(), 0.0)
    for worker in range(1, workers + 1):
        scheduler.handle(on.WorkerReady(worker), 0.0)
    return scheduler


def seconds_per_task(in_flight: int, run_s: float, timeout: float | None) -> float:
    """Push ``TASKS`` tasks through ``handle`` and nothing else, so many at a time, on two workers."""
    scheduler = started_scheduler(2)
    sent: deque[tuple[int, int]] = deque()
    handle = scheduler.handle
    submitted = settled = 0
    now = 1.0
    began = perf_counter()
    while settled < TASKS:
        while submitted - settled < in_flight and submitted < TASKS:
            submitted += 1
            scheduler.admit(timeout)
            for command in handle(on.TaskSubmitted(submitted, "noop", timeout=timeout), now):
                if type(command) is do.SendTask:
                    sent.append((command.worker, command.task))
        now += run_s
        worker, task = sent.popleft()
        for command in handle(on.TaskReturned(worker, task, True, run_s), now):
            if type(command) is do.SendTask:
                sent.append((command.worker, command.task))
            elif type(command) is do.Settle:
                settled += 1
    return (perf_counter() - began) / TASKS


class Direct:
    """The same two effects as plain method calls."""

    def send(self, worker: int, task: int) -> None:
        """Stand for sending."""

    def settle(self, task: int, outcome: TaskState) -> None:
        """Stand for settling."""


class Performer:
    """The same two effects, performed from a list of commands as the engine does it."""

    def __init__(self) -> None:
        self.perform: dict[type, Callable[..., None]] = {do.SendTask: self.send, do.Settle: self.settle}

    def send(self, command: do.SendTask) -> None:
        """Stand for sending."""

    def settle(self, command: do.Settle) -> None:
        """Stand for settling."""


def direct() -> float:
    """Return the seconds a task with method calls."""
    target, outcome = Direct(), TaskState.COMPLETED
    began = perf_counter()
    for task in range(TASKS):
        target.send(1, task)
        target.settle(task, outcome)
    return (perf_counter() - began) / TASKS


def commanded() -> float:
    """Return the seconds a task with two events, two lists of one command each, and the dispatch by type."""
    perform, outcome = Performer().perform, TaskState.COMPLETED
    began = perf_counter()
    for task in range(TASKS):
        on.TaskSubmitted(task, "noop")
        for command in [do.SendTask(1, task)]:
            perform[type(command)](command)
        on.TaskReturned(1, task, True, 0.0)
        for settle in [do.Settle(task, outcome)]:
            perform[type(settle)](settle)
    return (perf_counter() - began) / TASKS


CASES: dict[str, Callable[[], float]] = {
    "handle(), 1 in flight": lambda: seconds_per_task(1, 50e-6, None),
    "handle(), 1 in flight, with a timeout": lambda: seconds_per_task(1, 50e-6, 30.0),
    "handle(), 64 in flight, tasks of 50 us (pipelined)": lambda: seconds_per_task(64, 50e-6, None),
    "handle(), 64 in flight, tasks of 20 ms (queued)": lambda: seconds_per_task(64, 20e-3, None),
    "two method calls instead of commands": direct,
    "two events, two commands, dispatch by type": commanded,
}


def main() -> None:
    """Measure the cases in turn, round after round, and print the median of each."""
    samples: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, measure in CASES.items():
            samples[name].append(measure() * 1e6)
    print(f"us per task: median (smallest to largest) of {ROUNDS} rounds of {TASKS:,} tasks")
    for name, values in samples.items():
        print(f"{statistics.median(values):6.2f}  ({min(values):.2f} to {max(values):.2f})  {name}")


if __name__ == "__main__":
    main()
