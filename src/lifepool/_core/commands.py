"""The outputs of the scheduler: what the engine is to do, in the imperative and in order.

``SendTask`` and ``Settle``, which each task has, say how they are made: compiled, what ``dataclass`` would write for
that is still Python, and takes longer than the decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

# Imported when run, too: compiled, these dataclasses need the types of their fields when they are made.
from lifepool._core.events import KeptViews, WorkerExited  # noqa: TC001
from lifepool._core.states import ExitReason, TaskState  # noqa: TC001
from lifepool._core.task import Task  # noqa: TC001

if TYPE_CHECKING:
    from lifepool.errors import PoolError


@dataclass(slots=True)
class StartWorker:
    """Start a worker under this number; answer with ``WorkerReady`` or ``WorkerExited``."""

    worker: int


@dataclass(slots=True)
class StopWorker:
    """Ask a worker without tasks to exit; answer with ``WorkerExited``."""

    worker: int


@dataclass(slots=True)
class KillWorker:
    """End the worker at once, whatever it does; answer with ``WorkerExited``."""

    worker: int


@dataclass(slots=True, init=False)
class SendTask:
    """Give the task to the worker; answer with ``TaskReturned``, once."""

    worker: int
    task: int

    def __init__(self, worker: int, task: int) -> None:
        self.worker = worker
        self.task = task


@dataclass(slots=True)
class PreparePayload:
    """Make a payload for this machine of one that was made for a cluster; answer with ``TaskPrepared``."""

    task: int


@dataclass(slots=True)
class RetractTasks:
    """Take back what the worker has not started; answer with ``TasksRetracted`` at once."""

    worker: int


@dataclass(slots=True)
class InterruptTask:
    """Raise an exception inside the running task. If that has no effect, ``KillWorker`` follows."""

    worker: int
    task: int


@dataclass(slots=True, init=False)
class Settle:
    """Give the caller the outcome. For COMPLETED and FAILED the engine has the answer; else ``error`` is set.

    ``details`` says more for the log, unless the task was completed.
    """

    task: int
    outcome: TaskState
    error: PoolError | None = None
    details: Task | None = field(default=None, init=False, compare=False, repr=False)

    def __init__(self, task: int, outcome: TaskState, error: PoolError | None = None) -> None:
        self.task = task
        self.outcome = outcome
        self.error = error
        self.details = None


@dataclass(slots=True)
class SetTimer:
    """Answer with ``TimerFired`` at this monotonic instant, instead of at the one asked for before."""

    when: float


@dataclass(slots=True)
class ReportStarted:
    """Report that the pool is up, or why it could not start."""

    error: PoolError | None = None


@dataclass(slots=True)
class ReportClosed:
    """Report that every task is settled and every worker is gone."""


@dataclass(slots=True)
class ReportRecycled:
    """Report that all workers which there were at the request are replaced, or why they could not be."""

    error: PoolError | None = None


@dataclass(slots=True)
class ReportWorkerExit:
    """Report that a worker is gone, why it went, and how many tasks it had answered."""

    worker: int
    reason: ExitReason
    completed: int
    end: WorkerExited


@dataclass(slots=True)
class WarnOfKeptViews:
    """Warn in the log that the worker is replaced because it keeps views of too many shared arguments."""

    worker: int
    kept: KeptViews


Command = (
    StartWorker
    | StopWorker
    | KillWorker
    | SendTask
    | PreparePayload
    | RetractTasks
    | InterruptTask
    | Settle
    | SetTimer
    | ReportStarted
    | ReportClosed
    | ReportRecycled
    | ReportWorkerExit
    | WarnOfKeptViews
)
