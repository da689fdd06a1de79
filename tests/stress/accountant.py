"""The accountant: writes down each task, and judges how it ended."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifepool import QueueFull, TaskTimeout, WorkerLost, WorkerStartError
from tests.stress.workload import NUMBER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.stress.chaos import Chaos
    from tests.stress.jobs import Job
    from tests.stress.lag import LagMeter

#: Seconds past its timeout after which a task counts as hung.
PATIENCE_S = 5.0
#: Clocks differ by this much: that of the scheduler looks a little later than ours.
EARLY_S = 0.005
#: What is promised: seconds past its timeout by which a caller has its error, on a loop that has time.
LATE_S = 0.1  # beyond all that the event loop was late since then
#: Examples of what went wrong that are kept for the report.
EXAMPLES = 20


@dataclass(slots=True)
class Entry:
    """The record of one task.

    Attributes:
        job: What was asked for.
        timeout: Seconds it may take.
        began: Instant of its submission.
        cancelled: Whether its owner took it back.
    """

    job: Job
    timeout: float
    began: float
    cancelled: bool = False


class Accountant:
    """The accounts of a run: two bytes a task and an item, which ``balance`` gives back.

    Args:
        chaos: Knows which faults were injected, and when.
        lag: Knows how late the event loop was.
    """

    def __init__(self, chaos: Chaos, lag: LagMeter) -> None:
        self._chaos = chaos
        self._lag = lag
        self._open: set[int] = set()
        self._may_start = bytearray()
        self._answered = bytearray()
        self.kinds: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.wrong = 0
        self.hung = 0
        self.items = 0
        self.examples: list[str] = []
        self.latest_timeout_s = 0.0

    @property
    def tasks(self) -> int:
        """Return how many tasks were submitted one by one."""
        return self.kinds.total()

    def next_number(self) -> int:
        """Return the number of a new task."""
        self._may_start.append(0)
        self._answered.append(0)
        return len(self._may_start) - 1

    def next_numbers(self, count: int) -> range:
        """Return numbers for the items of a map; each may be started once."""
        self.items += count
        first = len(self._may_start)
        self._may_start.extend(b"\1" * count)
        self._answered.extend(bytes(count))
        return range(first, first + count)

    def opened(self, number: int, job: Job, timeout: float) -> Entry:
        """Record a task that is about to be submitted."""
        self._may_start[number] = job.may_start
        self.kinds[job.kind] += 1
        self._open.add(number)
        return Entry(job, timeout, time.monotonic())

    def closed(self, number: int, entry: Entry, result: Any = None, error: BaseException | None = None) -> None:
        """Record that a task has ended."""
        if number not in self._open:
            self.complain(f"task {number} ended twice")
            return
        self._open.remove(number)
        if error is not None:
            fault = self._judge_error(entry, error)
            outcome = type(error).__name__
        else:
            fault = "" if entry.job.fails is None and result == entry.job.answer else f"answered {result!r:.100}"
            outcome = "answered"
            self._answered[number] = 1
        self.outcomes[outcome] += 1
        if fault:
            self.complain(f"task {number} ({entry.job.kind}) {fault}")

    def complain(self, what: str) -> None:
        """Record that something is wrong."""
        self.wrong += 1
        self._remember(what)

    def hangs(self, number: int, entry: Entry) -> None:
        """Record a task that did not end in time."""
        self.hung += 1
        self._remember(f"task {number} ({entry.job.kind}, timeout {entry.timeout:.3f} s) did not end")

    def item_answered(self, number: int) -> None:
        """Record that an item of a map has its right answer."""
        self._answered[number] = 1

    def is_plausible(self, error: BaseException, began: float, timeout: float, *, may_time_out: bool) -> str:
        """Say why an error can't be explained by what was done to the pool; empty if it can.

        Args:
            error: What the caller got.
            began: Instant of the submission.
            timeout: Seconds the task had.
            may_time_out: Whether it is of a kind that needs longer.
        """
        if isinstance(error, TaskTimeout):
            return self._judge_timeout(began, timeout, may_time_out=may_time_out)
        if isinstance(error, WorkerLost) and self._chaos.killed_since(began):
            return ""
        if isinstance(error, WorkerStartError) and self._chaos.fell_since(began):
            return ""
        if isinstance(error, QueueFull):
            return "" if error.retry_after > 0 else "was refused without advice"
        return f"got {error!r:.300}"

    def _judge_error(self, entry: Entry, error: BaseException) -> str:
        if isinstance(error, asyncio.CancelledError):
            return "" if entry.cancelled else "was cancelled by nobody"
        if entry.job.fails is not None and entry.job.fails(error):
            return ""
        may_time_out = "timeout" in entry.job.options
        return self.is_plausible(error, entry.began, entry.timeout, may_time_out=may_time_out)

    def _judge_timeout(self, began: float, timeout: float, *, may_time_out: bool) -> str:
        late = time.monotonic() - began - timeout
        if late < -EARLY_S:
            return f"timed out {-late:.3f} s early"
        late -= self._lag.total_since(began + timeout)
        self.latest_timeout_s = max(self.latest_timeout_s, late)
        if late > LATE_S:
            return f"timed out {late:.3f} s late, beyond the event loop's lag"
        is_explained = may_time_out or self._chaos.stopped_since(began) or self._chaos.fell_since(began)
        return "" if is_explained else "timed out without any cause"

    def _remember(self, what: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(what)

    # -- at the end -----------------------------------------------------------------------------------------------

    def balance(self, log: str) -> None:
        """Compare the accounts with what workers wrote down: nothing ran too often, nothing answered without running.

        Then they are closed and given back: in a process that is being watched for growth, a hundred million items of
        maps are 200 MB of accounts.
        """
        starts = bytearray(len(self._may_start))
        for number in _numbers(log):
            starts[number] = min(255, starts[number] + 1)
        for number, (times, allowed, answered) in enumerate(zip(starts, self._may_start, self._answered, strict=True)):
            if times > allowed:
                self.complain(f"task {number} was started {times} times, {allowed} are allowed")
            if answered and not times:
                self.complain(f"task {number} was answered and never started")
        for number in self._open:
            self.complain(f"task {number} never ended")
        self._may_start, self._answered = bytearray(), bytearray()


def _numbers(log: str) -> Iterable[int]:
    size = NUMBER.size * 4096
    with open(log, "rb") as numbers:
        assert os.fstat(numbers.fileno()).st_size % NUMBER.size == 0
        while piece := numbers.read(size):
            for (number,) in NUMBER.iter_unpack(piece):
                yield number
