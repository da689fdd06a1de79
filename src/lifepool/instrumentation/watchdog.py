"""Watch an event loop from a thread, and take the stack of the loop's thread while it stands still."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifepool.instrumentation.stack import BlockingCall, find_blocking_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.instrumentation.lag import LagMeter

#: The part of a time that a thread must have computed to be called busy in it: it shares its CPU with others.
WORKED = 0.25
#: Seconds for the thread to end when asked to: it wakes up as soon as it is asked to.
JOIN_S = 5.0


@dataclass(slots=True)
class Block:
    """One time that the loop stood still.

    Attributes:
        since: The monotonic instant from which it was late.
        seconds: For how long; as long as it lasts, until it was last looked at.
        blocking_call: What it was busy with.
    """

    since: float
    seconds: float
    blocking_call: BlockingCall


class BlockDetector:
    """Decide from clocks whether a loop is blocked, and not merely the whole process stopped.

    A process that is stopped (SIGSTOP, a laptop's lid, a frozen cgroup) or gets no CPU is late everywhere: then whoever
    looks is late as well, and nobody has computed. If the one who looks was late but the loop's thread has computed,
    then somebody held the interpreter's lock, such as a regular expression: the loop is blocked.

    Args:
        threshold: Seconds that the loop may be late.
        period: Seconds between two looks at a loop that is late.

    Attributes:
        pause: Seconds until there may be something to see: to look takes the interpreter's lock from the loop, and on
            a machine whose CPUs are all busy that costs it a millisecond.
    """

    def __init__(self, threshold: float, period: float) -> None:
        self.pause: float = period
        self._threshold = threshold
        self._period = period
        self._looked: float | None = None
        self._worked = 0.0
        self._excused = 0.0  # what was late before this instant does not count

    def late_since(self, now: float, due: float, cpu: float) -> float | None:
        """Return the instant since which the loop is blocked, or None if it is not.

        Args:
            now: Monotonic seconds.
            due: When the loop's timer should have run, or will.
            cpu: Seconds of CPU time that the loop's thread has used.
        """
        if self._looked is not None:
            overslept, worked = now - self._looked - self.pause, cpu - self._worked
            if overslept > self._period and worked - self.pause < overslept * WORKED:
                self._excused = now
        self._looked, self._worked = now, cpu
        since = max(due, self._excused)
        self.pause = min(max(self._period, since + self._threshold - now), 2 * self._threshold)
        return since if now - since > self._threshold else None


class Watchdog(threading.Thread):
    """The thread that watches the running event loop.

    Args:
        meter: Knows when the loop is due.
        threshold: Seconds that it may be late.
        report: Called in this thread with each block, once, while it lasts, and the monotonic instant.
    """

    def __init__(self, meter: LagMeter, threshold: float, report: Callable[[Block, float], None]) -> None:
        super().__init__(name="lifepool-loop-watch", daemon=True)
        self._meter = meter
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._ended = threading.Event()
        self._detector = BlockDetector(threshold, threshold / 4)
        self._cpu = cpu_clock(self._loop_thread)
        self._block: Block | None = None

    def run(self) -> None:
        """Look again and again, until the pool or the loop ends."""
        while not self._ended.wait(self._detector.pause) and not self._loop.is_closed():
            self._look()

    def end(self) -> None:
        """Return when the thread is gone."""
        self._ended.set()
        self.join(JOIN_S)

    def _look(self) -> None:
        now, due, base = time.monotonic(), self._meter.due, self._meter.base
        since = self._detector.late_since(now, due, self._cpu())
        if since is None or not self._loop.is_running() or base is None:
            self._block = None
        elif self._block is not None:
            self._block.seconds = now - self._block.since
        elif (call := find_blocking_call(self._loop_thread, base)) is not None and self._meter.due == due:
            self._block = Block(since, now - since, call)
            self._report(self._block, now)


def cpu_clock(thread: int) -> Callable[[], float]:
    """Return a clock of a thread's CPU time, in seconds; of the process, where threads have none (macOS)."""
    get_clock = getattr(time, "pthread_getcpuclockid", None)
    if get_clock is None:
        return time.process_time
    clock: int = get_clock(thread)
    return lambda: time.clock_gettime(clock)
