"""What to do: the outputs of the scheduler, in the imperative. The engine performs them in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool._core.states import TaskState
    from lifepool._core.task import Task
    from lifepool.errors import PoolError


@dataclass(slots=True)
class StartWorker:
    """Start a worker under this number; answer with ``WorkerReady`` or ``WorkerExited``."""

    worker: int


@dataclass(slots=True)
class StopWorker:
    """Ask an idle worker to exit; answer with ``WorkerExited``."""

    worker: int


@dataclass(slots=True)
class KillWorker:
    """End the worker at once, whatever it does; answer with ``WorkerExited``."""

    worker: int


@dataclass(slots=True)
class SendTask:
    """Give the task to the worker; answer with ``TaskReturned``, once."""

    worker: int
    task: int


@dataclass(slots=True)
class RetractTasks:
    """Take back what the worker has not started; answer with ``TasksRetracted`` at once."""

    worker: int


@dataclass(slots=True)
class InterruptTask:
    """Raise an exception inside the running task. It may fail silently: a kill follows."""

    worker: int
    task: int


@dataclass(slots=True)
class Settle:
    """Give the caller the outcome. For COMPLETED and FAILED the engine holds the answer; else ``error`` is set.

    Of a task that was not completed ``details`` says more, for the log.
    """

    task: int
    outcome: TaskState
    error: PoolError | None = None
    details: Task | None = field(default=None, init=False, compare=False, repr=False)


@dataclass(slots=True)
class SetTimer:
    """Call back with ``TimerFired`` at this monotonic instant; replaces the one before."""

    when: float


@dataclass(slots=True)
class ReportStarted:
    """The pool is up, or could not start."""

    error: PoolError | None = None


@dataclass(slots=True)
class ReportClosed:
    """Every task is settled and every worker is gone."""


@dataclass(slots=True)
class ReportRecycled:
    """All workers that there were when it was asked for are replaced, or could not be."""

    error: PoolError | None = None


Command = (
    StartWorker
    | StopWorker
    | KillWorker
    | SendTask
    | RetractTasks
    | InterruptTask
    | Settle
    | SetTimer
    | ReportStarted
    | ReportClosed
    | ReportRecycled
)
