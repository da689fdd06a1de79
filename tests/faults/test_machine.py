"""A real pool against Hypothesis: any order of tasks, kills, stops, cancels, timeouts and replacements.

The scheduler alone has such a test too (`tests/core/test_scheduler_model.py`), and that is thousands of times as fast;
this one has real processes, and what happens between them. What is done in which order is Hypothesis's choice; when it
takes effect is the operating system's. Each history ends with all tasks let go, and then each must have an outcome that
can be explained.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from lifepool import Pool, QueueFull, TaskTimeout, WorkerLost, WorkerStartError
from tests import tasks
from tests.engine.gates import PATIENCE_S, Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lifepool import TaskHandle
    from lifepool.statistics import PoolStatistics

WORKERS = 2
HISTORIES, STEPS = 80, 20
picks = st.integers(0, 15)  # which of those there are: modulo their number


_NEVER = object()


@dataclass
class Task:
    """One task in the books."""

    handle: TaskHandle[Any]
    answer: Any = _NEVER
    fails: Callable[[BaseException], bool] = lambda error: False
    was_killed: bool = False
    cancelled: bool = False

    def judge(self, *, may_not_start: bool) -> str:
        """What is wrong with how it ended; empty if nothing is."""
        if not self.handle.done():
            return "never ended"
        if self.handle.cancelled():
            return "" if self.cancelled else "was cancelled by nobody"
        error = self.handle.exception()
        if error is None:
            result = self.handle.result()
            return "" if result == self.answer else f"answered {result!r}"
        if self.fails(error) or (self.was_killed and isinstance(error, WorkerLost)):
            return ""
        if may_not_start and isinstance(error, WorkerStartError):
            return ""
        return f"got {error!r}"


class Machine(RuleBasedStateMachine):
    """One history."""

    runner: ClassVar[asyncio.Runner]
    pool: ClassVar[Pool]
    gate: ClassVar[Gate]

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[Task] = []
        self.recycling: list[asyncio.Task[None]] = []
        self.killed = False  # and so some may not have started
        self.before = self.pool.statistics()

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _submit(self, fn: Callable[..., Any], *args: Any, options: dict[str, Any], **expected: Any) -> None:
        async def submit() -> None:
            # It would not be in time, says the door; or workers die while they start.
            refusals = [QueueFull, WorkerStartError] if self.killed else [QueueFull]
            with contextlib.suppress(*refusals):
                self.tasks.append(Task(self.pool.submit(fn, *args, **options), **expected))

        self.runner.run(submit())

    @rule(number=st.integers(1, 1000), priority=st.integers(-1, 1), retries=st.integers(0, 1))
    def task_that_answers(self, number: int, priority: int, retries: int) -> None:
        self._submit(tasks.double, number, options={"priority": priority, "retries": retries}, answer=2 * number)

    @rule(value=st.sampled_from(["held", b"x" * 100_000]), on_cancel=st.sampled_from(["interrupt", "abandon"]))
    def task_that_waits(self, value: object, on_cancel: Any) -> None:
        self._submit(tasks.hold, self.gate.address, value, options={"on_cancel": on_cancel}, answer=value)

    @rule()
    def task_that_fails(self) -> None:
        self._submit(tasks.fail, "no", options={}, fails=lambda error: type(error) is ValueError)

    @rule(code=st.integers(0, 255), retries=st.integers(0, 1))
    def task_that_kills_its_worker(self, code: int, retries: int) -> None:
        def fits(error: BaseException) -> bool:
            return isinstance(error, WorkerLost) and error.exitcode == code

        self._submit(tasks.exit_hard, code, options={"retries": retries}, fails=fits)

    @rule(timeout=st.sampled_from([0.02, 0.1]), deaf=st.booleans())
    def task_that_is_too_slow(self, timeout: float, deaf: bool) -> None:
        fn = tasks.hold_stubbornly if deaf else tasks.hold
        options = {"timeout": timeout}

        def fits(error: BaseException) -> bool:
            # Or it still waits when others of its kind have shown how long they take.
            return isinstance(error, (TaskTimeout, QueueFull))

        # If the history ends before its timeout, it is let through.
        self._submit(fn, self.gate.address, options=options, answer=ANY, fails=fits)

    @rule(moment=st.sampled_from([0.001, 0.02]))
    def time_passes(self, moment: float) -> None:
        """For answers to come, for workers to take what they were sent, and to start."""

        async def pass_time() -> None:
            done = [task.handle for task in self.tasks if not task.handle.done()]
            if done:
                await asyncio.wait(done, timeout=moment, return_when=asyncio.FIRST_COMPLETED)

        self.runner.run(pass_time())

    # -- what is done to them -------------------------------------------------------------------------------------

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        under_way = [task for task in self.tasks if not task.handle.done()]
        if not under_way:
            return
        task = under_way[pick % len(under_way)]
        task.cancelled = True

        async def cancel() -> None:
            task.handle.cancel()

        self.runner.run(cancel())

    def _pids(self) -> list[int]:
        return sorted(worker.pid for worker in self.pool.workers() if worker.pid is not None)

    @rule(pick=picks)
    def kill(self, pick: int) -> None:
        self.killed = True
        for task in self.tasks:
            task.was_killed |= not task.handle.done()
        if pids := self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[pick % len(pids)], signal.SIGKILL)

    @rule(pick=picks)
    def stop(self, pick: int) -> None:
        if pids := self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[pick % len(pids)], signal.SIGSTOP)

    @rule()
    def resume(self) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @rule()
    def replace_the_workers(self) -> None:
        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(self.pool.recycle())

        self.recycling.append(self.runner.run(begin()))

    # -- the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.runner.run(self._end())
        self.gate.forget()
        wrong = [
            f"task {task.handle.id}: {fault}" for task in self.tasks if (fault := task.judge(may_not_start=self.killed))
        ]
        assert not wrong, wrong
        balance = _difference(self.pool.statistics(), self.before)
        assert balance["submitted"] == sum(balance[each] for each in OUTCOMES), balance

    async def _end(self) -> None:
        """Let all go on until nothing is under way and both workers are there."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self._is_calm():
                    self.resume()
                    self.gate.let_everybody_through()
                    await asyncio.sleep(0.002)
                await asyncio.gather(*self.recycling, return_exceptions=True)
        except TimeoutError:
            raise AssertionError(f"it does not come to rest: {self.pool.statistics()} {self.pool.workers()}") from None

    def _is_calm(self) -> bool:
        statistics = self.pool.statistics()
        if statistics.queued or statistics.running or statistics.workers.get("ready", 0) != WORKERS:
            return False
        return all(task.handle.done() for task in self.tasks) and all(each.done() for each in self.recycling)


OUTCOMES = ("completed", "failed", "cancelled", "timed_out", "lost")


def _difference(now: PoolStatistics, before: PoolStatistics) -> dict[str, int]:
    return {name: getattr(now, name) - getattr(before, name) for name in ("submitted", *OUTCOMES)}


@pytest.fixture
def runner(gate: Gate) -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        Machine.runner, Machine.gate = runner, gate
        yield runner


@pytest.mark.timeout(400)
def test_whatever_happens_every_task_ends_once_and_can_be_explained(runner: asyncio.Runner) -> None:
    Machine.pool = Pool(max_workers=WORKERS, name="machine")

    async def start() -> None:
        await Machine.pool.start()

    runner.run(start())
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=HISTORIES,
                stateful_step_count=STEPS,
                deadline=None,
                phases=[Phase.generate],  # the same steps may go another way: there is nothing to shrink
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        runner.run(Machine.pool.aclose())
