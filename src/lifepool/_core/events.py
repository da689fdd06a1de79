"""What happened: the inputs of the scheduler, in the past tense.

Events are small and slotted, hold identifiers rather than payloads, and are never changed after they were made. They
are not ``frozen`` because a frozen dataclass costs three times as much to make, on the hottest path there is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StartRequested:
    """The user started the pool."""


@dataclass(slots=True)
class TaskSubmitted:
    """A task passed the door (``Scheduler.refusal`` said nothing against it)."""

    task: int
    name: str = ""  # the one that its run time is learned under
    priority: int = 0
    timeout: float | None = None  # seconds from now, waiting included
    retries: int = 0
    fair_key: str | None = None
    held: bool = False  # its payload is not ready: ``TaskPrepared`` says when
    firm: bool = False  # once it is let in, it is not refused any more


@dataclass(slots=True)
class TaskPrepared:
    """The payload of a held task is ready; or it can't be made, and the engine knows why."""

    task: int
    succeeded: bool = True


@dataclass(slots=True)
class SubmissionRefused:
    """A task was turned away at the door."""


@dataclass(slots=True)
class TaskCancelled:
    """The caller lost interest. ``abandon``: a running task may go on, its answer is dropped."""

    task: int
    abandon: bool = False


@dataclass(slots=True)
class WorkerReady:
    """A worker finished its start-up and can take tasks."""

    worker: int


@dataclass(slots=True)
class WorkerLoading:
    """Before it can run this task, the worker imports a module that it did not have."""

    worker: int
    task: int


@dataclass(slots=True)
class WorkerLoaded:
    """It has imported all that the task needs, and runs it from now on."""

    worker: int
    task: int


@dataclass(slots=True)
class TaskReturned:
    """A worker answered. ``run_s``: seconds the function took, measured in the worker."""

    worker: int
    task: int
    succeeded: bool
    run_s: float
    retryable: bool = False  # it raised, and the user named this type for retries
    memory: int | None = None  # the worker's resident bytes after the task, when it measured them
    retire: str = ""  # why the worker is to be replaced after this, if it is


@dataclass(slots=True)
class TasksRetracted:
    """These tasks were taken back from the worker before it started them (they may be fewer than hoped)."""

    worker: int
    tasks: tuple[int, ...]


@dataclass(slots=True)
class WorkerExited:
    """A worker process is gone."""

    worker: int
    unstarted: tuple[int, ...] = ()  # tasks it had been sent and had provably not started
    exitcode: int | None = None
    signal: int | None = None
    oom_suspected: bool = False
    reason: str = ""  # our own words, where the exit status alone would mislead
    start_error: str | None = None  # the worker's traceback, when it died before it was ready
    start_hint: str | None = None


@dataclass(slots=True)
class TimerFired:
    """The instant last asked for by ``SetTimer`` has come."""


@dataclass(slots=True)
class RecycleRequested:
    """Replace all workers, one after another, each successor first."""


@dataclass(slots=True)
class DrainRequested:
    """Take nothing new and finish what is there, within ``timeout`` seconds."""

    timeout: float


@dataclass(slots=True)
class CloseRequested:
    """End now: what is not finished is cancelled."""


Event = (
    StartRequested
    | TaskSubmitted
    | TaskPrepared
    | SubmissionRefused
    | TaskCancelled
    | WorkerReady
    | WorkerLoading
    | WorkerLoaded
    | TaskReturned
    | TasksRetracted
    | WorkerExited
    | TimerFired
    | RecycleRequested
    | DrainRequested
    | CloseRequested
)
