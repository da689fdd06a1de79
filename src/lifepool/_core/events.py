"""The inputs of the scheduler: what happened, in the past tense.

Events are small and slotted, hold identifiers rather than payloads, and are never changed after they were made. They
are not ``frozen`` because a frozen dataclass costs three times as much to make, on the hottest path there is.
"""

from __future__ import annotations

from collections.abc import Hashable  # noqa: TC003 - compiled, a dataclass needs the types of its fields
from dataclasses import dataclass
from typing import NamedTuple

# Imported when run, too: compiled, these dataclasses need the types of their fields when they are made.
from lifepool.errors import PoolError  # noqa: TC001


@dataclass(slots=True)
class StartRequested:
    """The user started the pool."""


@dataclass(slots=True)
class TaskSubmitted:
    """A task was admitted (``Scheduler.admit`` did not refuse it)."""

    task: int
    name: str = ""  # the one that its run time is learned under
    priority: float = 0
    timeout: float | None = None  # seconds from now, waiting included
    retries: int = 0
    fair_key: Hashable = None
    preparing: bool = False  # its payload is not ready: ``TaskPrepared`` says when
    firm: bool = False  # it is not refused any more once it is admitted
    remote: bool = False  # of two backends, the cluster is to run it


@dataclass(slots=True)
class TaskAdopted(TaskSubmitted):
    """A task comes from another scheduler, with its deadline and its retries; it is in preparation."""

    submitted: float = 0.0  # the instant
    attempts: int = 0  # how often it was tried in vain


@dataclass(slots=True)
class TaskPrepared:
    """The payload of a task in preparation is ready; or it can't be made, and the engine knows why."""

    task: int
    succeeded: bool = True


@dataclass(slots=True)
class TaskCancelled:
    """The caller cancelled a task. ``abandon``: if it runs it may go on, and its answer is dropped."""

    task: int
    abandon: bool = False


@dataclass(slots=True)
class WorkerReady:
    """A worker finished its start-up and can take tasks."""

    worker: int
    cpu_share: float | None = None  # of its start, in which it used a CPU


@dataclass(slots=True)
class WorkerLoading:
    """A worker began to import modules that this task needs and that it did not have."""

    worker: int
    task: int


@dataclass(slots=True)
class WorkerLoaded:
    """A worker has imported all that the task needs, and runs the task from now on."""

    worker: int
    task: int


class KeptViews(NamedTuple):
    """How much of the shared arguments of answered tasks a worker still has views of (``copy=False``)."""

    tasks: int
    size: int  # bytes


@dataclass(slots=True)
class TaskReturned:
    """A worker answered a task. ``run_s``: seconds the function took, measured in the worker."""

    worker: int
    task: int
    succeeded: bool
    run_s: float
    retryable: bool = False  # it raised, and the user named this type for retries
    memory: int | None = None  # the worker's resident bytes after the task, when it measured them
    kept: KeptViews | None = None  # what the worker still has views of, if anything


@dataclass(slots=True)
class TasksRetracted:
    """These tasks were taken back from the worker before it started them; there may be none."""

    worker: int
    tasks: tuple[int, ...]


@dataclass(slots=True)
class WorkerExited:
    """A worker is gone."""

    worker: int
    unstarted: tuple[int, ...] = ()  # tasks it had been sent and had provably not started
    exitcode: int | None = None
    signal: int | None = None
    oom_suspected: bool = False
    reason: str = ""  # a description, where the exit status alone would mislead
    start_error: str | None = None  # the worker's traceback, when it died before it was ready
    start_hint: str | None = None


@dataclass(slots=True)
class TaskLost:
    """A worker with many slots lost one of its tasks, and is still there: what ran it is gone."""

    worker: int
    task: int
    end: WorkerExited  # of what ran it; with the task in ``unstarted`` if it had provably not started


@dataclass(slots=True)
class TaskRefused:
    """A cluster takes no calls, and gives back a task that it has provably not started."""

    worker: int
    task: int
    error: PoolError  # what its caller gets, if nobody else runs it


@dataclass(slots=True)
class TaskHandedOver:
    """Another scheduler takes over a task: this one forgets it, without an outcome."""

    task: int


@dataclass(slots=True)
class ReachChanged:
    """Calls go through to a cluster again (None), or do not, and why."""

    unreachable: str | None


@dataclass(slots=True)
class TasksTaken:
    """Tasks of a worker that is a cluster have reached a node; until then they wait there."""

    worker: int
    tasks: tuple[int, ...]


@dataclass(slots=True)
class WorkerResized:
    """A worker with many slots has more or fewer of them now."""

    worker: int
    slots: int


@dataclass(slots=True)
class TimerFired:
    """The instant came that ``SetTimer`` last asked for."""


@dataclass(slots=True)
class RecycleRequested:
    """The user asked to replace all workers, one after another, each successor first."""


@dataclass(slots=True)
class DrainRequested:
    """The pool was asked to admit nothing new and to finish what is there within ``timeout`` seconds."""

    timeout: float


@dataclass(slots=True)
class CloseRequested:
    """The pool was asked to end now: what is not finished is cancelled."""

    at_once: bool = False  # all of it in this decision


Event = (
    StartRequested
    | TaskSubmitted
    | TaskAdopted
    | TaskPrepared
    | TaskCancelled
    | WorkerReady
    | WorkerLoading
    | WorkerLoaded
    | TaskReturned
    | TasksRetracted
    | WorkerExited
    | TaskLost
    | TaskRefused
    | TaskHandedOver
    | ReachChanged
    | TasksTaken
    | WorkerResized
    | TimerFired
    | RecycleRequested
    | DrainRequested
    | CloseRequested
)
