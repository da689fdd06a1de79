"""A pool under more work than it can do, in simulated time: the scheduler is real, workers and clock are numbers.

Tasks arrive at random, at a multiple of what the workers can do, each with a timeout. Each takes a time of its own that
nobody knows before. What is answered within its timeout is the *goodput*; what a worker did for a task that was given
up on is waste.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core.scheduler import Scheduler
from lifepool._core.states import TaskState
from tests.core.script import NOON, limits_for

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that an answer and the next task need on their way.
WAY_S = 0.1e-3
#: Draws a name and the seconds that the task will take.
Work = "Callable[[Random], tuple[str, float]]"


@dataclass
class SimulatedWorker:
    """Run the tasks that it was sent, in order."""

    sent: deque[int] = field(default_factory=deque)
    running: int | None = None
    ends: float = 0.0


@dataclass(frozen=True)
class Overload:
    """The result of a simulation.

    Attributes:
        goodput: Seconds of work answered in time, of the seconds that the workers had.
        late: Share of those let in that passed their timeout.
        refused: Share of all that were not admitted.
    """

    goodput: float
    late: float
    refused: float


class Simulation:
    """One pool, some workers, and a clock that jumps from one happening to the next.

    Args:
        work: What tasks are like.
        factor: Offered work, in multiples of what the workers can do.
        mean_s: Mean seconds of a task.
        timeout: Seconds, the same for all.
        workers: How many.
        seed: Of everything random.
    """

    def __init__(
        self,
        work: Callable[[Random], tuple[str, float]],
        *,
        factor: float,
        mean_s: float,
        timeout: float,
        workers: int,
        seed: int,
    ) -> None:
        self._work, self._timeout, self._random = work, timeout, Random(seed)
        self._rate = factor * workers / mean_s
        self.scheduler = Scheduler(
            limits_for(max_workers=workers, min_workers=workers, max_queue=1000), random=self._random.random
        )
        self._now = NOON
        self._workers: dict[int, SimulatedWorker] = {}
        self._seconds: dict[int, float] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._numbers = count(), count(1)
        self._done_s = 0.0
        self._outcomes = dict.fromkeys(TaskState, 0)
        self._refused = 0
        self._alarm = 0

    def run(self, seconds: float) -> Overload:
        """Offer work for so many seconds, and return the result; tasks that still run then do not count."""
        self.start()
        self._at(self._now, self._arrive)
        self.pass_time(seconds)
        let_in = sum(self._outcomes.values())
        return Overload(
            goodput=self._done_s / (seconds * len(self._workers)),
            late=self._outcomes[TaskState.TIMED_OUT] / let_in,
            refused=self._refused / (self._refused + let_in),
        )

    def start(self) -> None:
        """Start the pool; all workers are ready at once."""
        self._feed(on.StartRequested())
        for worker in list(self._workers):
            self._feed(on.WorkerReady(worker))

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, and everything happen in its order."""
        end = self._now + seconds
        while self._agenda and self._agenda[0][0] < end:
            self._now, _, happen = heapq.heappop(self._agenda)
            happen()
        self._now = end

    def burst(self, tasks: int) -> int:
        """Submit so many tasks at once; return how many were not admitted."""
        before = self._refused
        for _ in range(tasks):
            self._offer()
        return self._refused - before

    def outcomes(self) -> dict[str, int]:
        """Return how many tasks ended in each outcome."""
        return {outcome.value: count for outcome, count in self._outcomes.items() if count}

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), happen))

    def _arrive(self) -> None:
        self._at(self._now + self._random.expovariate(self._rate), self._arrive)
        self._offer()

    def _offer(self) -> None:
        name, seconds = self._work(self._random)
        if self.scheduler.admit(self._timeout, None, name) is not None:
            self._refused += 1
            return
        number = next(self._numbers)
        self._seconds[number] = seconds
        self._feed(on.TaskSubmitted(number, name, timeout=self._timeout))

    # -- what the engine and the backend do -----------------------------------------------------------------------

    def _feed(self, event: on.Event) -> None:
        for command in self.scheduler.handle(event, self._now):
            self._perform(command)

    def _perform(self, command: do.Command) -> None:
        match command:
            case do.StartWorker(worker):
                self._workers[worker] = SimulatedWorker()
            case do.SendTask(worker, task):
                self._workers[worker].sent.append(task)
                self._begin(worker, self._now + WAY_S)
            case do.RetractTasks(worker):
                sent = self._workers[worker].sent
                back = tuple(sent)
                sent.clear()
                self._at(self._now, lambda: self._feed(on.TasksRetracted(worker, back)))
            case do.InterruptTask(worker, task):
                self._break_off(worker, task)
            case do.Settle(task, outcome):
                self._outcomes[outcome] += 1
                self._done_s += self._seconds[task] if outcome is TaskState.COMPLETED else 0.0
            case do.SetTimer(when):
                self._alarm += 1
                self._at(max(when, self._now), lambda alarm=self._alarm: self._ring(alarm))  # type: ignore[misc]

    def _ring(self, alarm: int) -> None:
        if alarm == self._alarm:
            self._feed(on.TimerFired())

    def _begin(self, worker: int, when: float) -> None:
        real = self._workers[worker]
        if real.running is None and real.sent:
            task = real.running = real.sent.popleft()
            real.ends = when + self._seconds[task]
            self._at(real.ends, lambda: self._end(worker, task, self._seconds[task], succeeded=True))

    def _break_off(self, worker: int, task: int) -> None:
        real = self._workers[worker]
        if real.running == task:
            ran = max(0.0, self._seconds[task] - (real.ends - self._now))
            self._at(self._now + WAY_S, lambda: self._end(worker, task, ran, succeeded=False))

    def _end(self, worker: int, task: int, ran: float, *, succeeded: bool) -> None:
        real = self._workers[worker]
        if real.running != task:  # broken off before
            return
        real.running = None
        self._begin(worker, self._now)
        self._feed(on.TaskReturned(worker, task, succeeded, ran))
