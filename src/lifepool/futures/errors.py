"""The pool's errors as code for the standard executor catches them."""

from __future__ import annotations

from concurrent.futures import process as standard
from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError
from typing import Any

from lifepool import errors
from lifepool._transfer.exceptions import RemoteTraceback, as_raised, set_cause, worker_traceback

#: The class of the cause of what a task raised: it has no public name, but there is code that asks for it.
_StandardTraceback: Any = vars(standard)["_RemoteTraceback"]


class WorkerLost(errors.WorkerLost, BrokenProcessPool):
    """The worker process died while it ran this task. Only this task is lost: the executor is not broken."""


class WorkerStartError(errors.WorkerStartError, BrokenProcessPool):
    """No worker could start for this task. The next one is tried anew: the executor is not broken."""


class TaskNotPicklable(errors.TaskNotPicklable, PicklingError):
    """The function, an argument, or the result can't be sent between processes."""


_STANDARD: dict[type[BaseException], type[errors.PoolError]] = {
    errors.WorkerLost: WorkerLost,
    errors.WorkerStartError: WorkerStartError,
    errors.TaskNotPicklable: TaskNotPicklable,
}


def as_standard(error: BaseException) -> BaseException:
    """Return an error that is what the standard executor's futures raise as well.

    What a task raised stays the same object, and its cause, the worker's traceback, becomes a standard one.
    """
    error = as_raised(error)
    cls = _STANDARD.get(type(error))
    if cls is not None:
        twin = cls.__new__(cls)
        twin.args = error.args
        twin.__dict__.update(error.__dict__)
        twin.__cause__, twin.__traceback__ = error.__cause__, error.__traceback__
        error = twin
    if (text := worker_traceback(error)) is not None:
        set_cause(error, _StandardTraceback(str(RemoteTraceback(text))))
    return error
