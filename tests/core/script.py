"""Give events to a scheduler and write down its commands, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core import invariants
from lifepool._core.policy import Limits
from lifepool._core.scheduler import Scheduler

if TYPE_CHECKING:
    from lifepool._core.states import ExitReason
    from lifepool.errors import PoolError

#: Where the clocks of these tests start: a monotonic clock's zero means nothing.
NOON = 1000.0


def limits_for(**changes: Any) -> Limits:
    """Return limits for one worker and a short queue, with these changes."""
    return Limits(**({"max_workers": 1, "min_workers": 1, "max_queue": 10} | changes))


class Script:
    """A scheduler with its clock and its alarm. Every step checks the invariants.

    Attributes:
        now: The clock; tests move it.
        alarm: The instant last asked for, until it came.
        errors: The errors given to callers, by task.
        start_error: What the start was reported to have failed with.
        exits: Why workers went, by number, as it was reported. It is no line of what the scheduler says.
        warned: What workers kept too much of, by number.
    """

    def __init__(self, *, jitter: float = 0.5, **limits: Any) -> None:
        self.scheduler = Scheduler(limits_for(**limits), random=lambda: jitter)
        self.now = NOON
        self.alarm: float | None = None
        self.errors: dict[int, PoolError | None] = {}
        self.start_error: PoolError | None = None
        self.exits: dict[int, ExitReason] = {}
        self.warned: dict[int, on.KeptViews] = {}

    def feed(self, event: on.Event) -> list[str]:
        """Return the commands that follow from this event, now."""
        commands = self.scheduler.handle(event, self.now)
        invariants.check(self.scheduler)
        return [line for command in commands if (line := self._line(command))]

    def _line(self, command: do.Command) -> str:  # noqa: C901 - one line each
        match command:
            case do.StartWorker(worker):
                return f"start w{worker}"
            case do.StopWorker(worker):
                return f"stop w{worker}"
            case do.KillWorker(worker):
                return f"kill w{worker}"
            case do.SendTask(worker, task):
                return f"send {task} to w{worker}"
            case do.PreparePayload(task):
                return f"prepare {task}"
            case do.RetractTasks(worker):
                return f"retract from w{worker}"
            case do.InterruptTask(worker, task):
                return f"interrupt {task} on w{worker}"
            case do.Settle(task, outcome, error):
                self.errors[task] = error
                return f"{task} is {outcome.value}" + (f": {type(error).__name__}" if error else "")
            case do.SetTimer(when):
                self.alarm = when
                return f"wake in {when - self.now:.5g}"
            case do.ReportStarted(error):
                self.start_error = error
                return "started" if error is None else f"not started: {type(error).__name__}"
            case do.ReportRecycled(error):
                return "recycled" if error is None else f"not recycled: {type(error).__name__}"
            case do.ReportClosed():
                return "closed"
            case do.ReportWorkerExit(worker, reason):
                self.exits[worker] = reason
                return ""
            case do.WarnOfKeptViews(worker, kept):
                self.warned[worker] = kept
                return ""

    # -- events, in short ------------------------------------------------------------------------------------------

    def start(self) -> list[str]:
        return self.feed(on.StartRequested())

    def submit(self, task: int, **options: Any) -> list[str]:
        return self.feed(on.TaskSubmitted(task, **options))

    def cancel(self, task: int, *, abandon: bool = False) -> list[str]:
        return self.feed(on.TaskCancelled(task, abandon))

    def ready(self, worker: int, cpu_share: float | None = None) -> list[str]:
        return self.feed(on.WorkerReady(worker, cpu_share))

    def loading(self, worker: int, task: int) -> list[str]:
        return self.feed(on.WorkerLoading(worker, task))

    def loaded(self, worker: int, task: int) -> list[str]:
        return self.feed(on.WorkerLoaded(worker, task))

    def returned(self, worker: int, task: int, run_s: float = 0.0, **what: Any) -> list[str]:
        return self.feed(on.TaskReturned(worker, task, what.pop("succeeded", True), run_s, **what))

    def retracted(self, worker: int, *tasks: int) -> list[str]:
        return self.feed(on.TasksRetracted(worker, tasks))

    def exited(self, worker: int, *unstarted: int, **how: Any) -> list[str]:
        return self.feed(on.WorkerExited(worker, unstarted, **how))

    def drain(self, timeout: float = 30.0) -> list[str]:
        return self.feed(on.DrainRequested(timeout))

    def recycle(self) -> list[str]:
        return self.feed(on.RecycleRequested())

    def close(self) -> list[str]:
        return self.feed(on.CloseRequested())

    def fire(self) -> list[str]:
        """Let the time pass until the alarm, which is never early."""
        assert self.alarm is not None
        self.now = max(self.now, self.alarm + 1e-9)
        self.alarm = None
        return self.feed(on.TimerFired())

    def pass_time(self, seconds: float) -> list[str]:
        """Let so many seconds pass; return the commands that follow from the alarms."""
        end = self.now + seconds
        said: list[str] = []
        while self.alarm is not None and self.alarm < end:
            said += self.fire()
        self.now = max(self.now, end)
        return said


def running(**limits: Any) -> Script:
    """Return a pool whose first workers are ready."""
    script = Script(**limits)
    script.start()
    for worker in list(script.scheduler.fleet.workers):
        script.ready(worker)
    return script


def knowing(run_s: float, name: str = "f", **limits: Any) -> Script:
    """Return a running pool that has learned how long tasks of this name take."""
    script = running(**limits)
    script.scheduler.run_times.learn(name, run_s)
    return script
